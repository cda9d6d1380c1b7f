// Publish one event to Beaconfire from Go, and do not give up before it is on disk.
//
//	BEACONFIRE_NATS_USER=publisher BEACONFIRE_NATS_PASSWORD=… ./publish CAMPAIGN SETTLEMENT FIELD…
//
// Ends with 0 when the broker has the event, with 1 and a sentence on standard error when it does not.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	attempt = 2 * time.Second // until one attempt counts as lost
	pause   = 250 * time.Millisecond
)

// maxBytes is of the body: a larger one may be stored, and is delivered to nobody.
const maxBytes = 65_536

// An id is one word of the subject.
var validID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// The JSON around a payload: PROTOCOL.md, "Publishing".
type event struct {
	ID       string   `json:"id"`
	Type     string   `json:"type"`
	Version  int      `json:"version"`
	Payload  payload  `json:"payload"`
	Metadata metadata `json:"metadata"`
}

// docs/reference/events.md, settlement_updated.
type payload struct {
	CampaignID    string   `json:"campaignId"`
	SettlementID  string   `json:"settlementId"`
	Operation     string   `json:"operation"`
	ChangedFields []string `json:"changedFields"`
}

type metadata struct {
	Timestamp time.Time `json:"timestamp"`
	Source    string    `json:"source"`
}

func main() {
	if len(os.Args) < 4 {
		fail(errors.New("usage: publish CAMPAIGN SETTLEMENT FIELD…"))
	}
	for _, id := range os.Args[1:3] {
		if !validID.MatchString(id) {
			fail(fmt.Errorf("%q is no id: it has 1 to 64 letters, digits, _ and -", id))
		}
	}
	ack, err := run(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fail(err)
	}
	// Of a repeat it is the same offset; ack.Duplicate would tell.
	fmt.Println("published, offset", ack.Sequence)
}

func run(campaign, settlement string, fields []string) (*nats.PubAck, error) {
	giveUpAfter, err := giveUpAfter()
	if err != nil {
		return nil, err
	}
	// In all: waiting for a broker, and every attempt.
	ctx, cancel := context.WithTimeout(context.Background(), giveUpAfter)
	defer cancel()

	// "You may not publish there" comes on the connection, not as an answer to the message.
	refused := make(chan error, 1)
	nc, err := connect(refused)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		return nil, err
	}
	msg, err := message(campaign, settlement, fields)
	if err != nil {
		return nil, err
	}
	ack, err := publish(ctx, js, msg, refused)
	switch {
	case errors.Is(err, nats.ErrNoStreamResponse):
		return nil, fmt.Errorf("no stream takes %s: has `beaconfire setup` been run on this broker?", msg.Subject)
	case err != nil && nc.IsClosed():
		return nil, fmt.Errorf("no connection to %s as %q: %w", hosts(address()), os.Getenv("BEACONFIRE_NATS_USER"), nc.LastError())
	case err != nil && !nc.IsConnected():
		return nil, fmt.Errorf("no broker answers at %s", hosts(address()))
	}
	return ack, err
}

// giveUpAfter is GIVE_UP_AFTER_S seconds, 30 where it is not set.
func giveUpAfter() (time.Duration, error) {
	text := os.Getenv("GIVE_UP_AFTER_S")
	if text == "" {
		return 30 * time.Second, nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 1 {
		return 0, fmt.Errorf("GIVE_UP_AFTER_S is %q, and must be a number of seconds", text)
	}
	return time.Duration(seconds) * time.Second, nil
}

func address() string {
	if address := os.Getenv("BEACONFIRE_NATS_URL"); address != "" {
		return address
	}
	return nats.DefaultURL
}

// hosts is an address without the password that may be in it.
func hosts(address string) string {
	servers := strings.Split(address, ",")
	for i, server := range servers {
		servers[i] = server[strings.LastIndex(server, "@")+1:]
	}
	return strings.Join(servers, ",")
}

func connect(refused chan<- error) (*nats.Conn, error) {
	user := os.Getenv("BEACONFIRE_NATS_USER")
	nc, err := nats.Connect(address(),
		nats.Name("example-go"),
		nats.UserInfo(user, os.Getenv("BEACONFIRE_NATS_PASSWORD")),
		// The shipped table lets a user hear answers to itself only under this prefix.
		nats.CustomInboxPrefix("_INBOX_"+user),
		// A broker that is not there yet, or not any more, is waited for.
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(pause),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case refused <- err:
			default:
			}
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("no connection to %s as %q: %w", hosts(address()), user, err)
	}
	return nc, nil
}

// message is the event on its subject. The ids in both must be the same.
func message(campaign, settlement string, fields []string) (*nats.Msg, error) {
	id, err := eventID()
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(event{
		ID:       id,
		Type:     "settlement_updated",
		Version:  1,
		Payload:  payload{campaign, settlement, "update", fields},
		Metadata: metadata{time.Now().UTC(), "example-go"},
	})
	if err != nil {
		return nil, err
	}
	if len(body) > maxBytes {
		return nil, fmt.Errorf("an event has at most %d bytes, this one %d", maxBytes, len(body))
	}
	msg := nats.NewMsg(fmt.Sprintf("campaign.%s.settlement.%s", campaign, settlement))
	msg.Data = body
	// By this header the broker drops a repeat, for 15 minutes: that is what makes it safe to try again.
	msg.Header.Set(nats.MsgIdHdr, id)
	return msg, nil
}

// eventID is EVENT_ID where it is set, so that a run can be repeated, and a random one otherwise.
func eventID() (string, error) {
	if id := os.Getenv("EVENT_ID"); id != "" {
		return id, nil
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	return hex.EncodeToString(random), nil
}

// publish repeats the same message until the broker says that it is stored, or that it will not be. When the time is up,
// it returns what the last whole attempt met.
func publish(ctx context.Context, js nats.JetStreamContext, msg *nats.Msg, refused <-chan error) (*nats.PubAck, error) {
	var last error
	for {
		ack, err := once(ctx, js, msg)
		if err == nil {
			return ack, nil
		}
		if last == nil || ctx.Err() == nil { // an attempt that we cut off ourselves says nothing about the broker
			last = err
		}
		var no *nats.APIError
		if errors.As(err, &no) {
			return nil, fmt.Errorf("the broker refused the event: %w", err)
		}
		if errors.Is(err, nats.ErrConnectionClosed) { // for good: a wrong password
			return nil, err
		}
		select {
		case why := <-refused:
			return nil, fmt.Errorf("the broker refused the event: %w", why)
		case <-ctx.Done():
			return nil, fmt.Errorf("not acknowledged in time, it may be stored all the same: %w", last)
		case <-time.After(pause):
		}
	}
}

func once(ctx context.Context, js nats.JetStreamContext, msg *nats.Msg) (*nats.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	return js.PublishMsg(msg, nats.ExpectStream("EVENTS"), nats.Context(ctx))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "publish:", err)
	os.Exit(1)
}
