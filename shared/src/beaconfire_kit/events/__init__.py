"""Every event of the product, a file per domain. Importing this package fills the catalogue."""

import pkgutil
from importlib import import_module

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
