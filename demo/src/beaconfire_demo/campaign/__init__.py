"""A campaign that everybody at the table sees change. Its domain service is the publisher; `page` is its page."""
