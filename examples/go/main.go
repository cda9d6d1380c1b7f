// Publish one event to Beaconfire from Go, and do not give up before it is on disk.
//
//	NATS_URL=nats://127.0.0.1:4222 NATS_USER=publisher NATS_PASSWORD=… ./publish CAMPAIGN SETTLEMENT FIELD…
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
	"time"

	"github.com/nats-io/nats.go"
)

const (
	giveUpAfter = 30 * time.Second // in all: connecting, and every attempt
	attempt     = 5 * time.Second  // until one attempt counts as lost
	pause       = 250 * time.Millisecond
)

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
	ack, err := run(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fail(err)
	}
	// Of a repeat it is the same offset; ack.Duplicate would tell.
	fmt.Println("published, offset", ack.Sequence)
}

func run(campaign, settlement string, fields []string) (*nats.PubAck, error) {
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
	return publish(ctx, js, msg, refused)
}

func connect(refused chan<- error) (*nats.Conn, error) {
	user := os.Getenv("NATS_USER")
	address := os.Getenv("NATS_URL")
	if address == "" {
		address = nats.DefaultURL
	}
	nc, err := nats.Connect(address,
		nats.Name("example-go"),
		nats.UserInfo(user, os.Getenv("NATS_PASSWORD")),
		// The shipped table lets a user hear answers to itself only under this prefix.
		nats.CustomInboxPrefix("_INBOX_"+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case refused <- err:
			default:
			}
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("no connection to %s as %q: %w", address, user, err)
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

// publish repeats the same message until the broker says that it is stored, or that it will not be.
func publish(ctx context.Context, js nats.JetStreamContext, msg *nats.Msg, refused <-chan error) (*nats.PubAck, error) {
	for {
		ack, err := once(ctx, js, msg)
		if err == nil {
			return ack, nil
		}
		var no *nats.APIError
		if errors.As(err, &no) {
			return nil, fmt.Errorf("the broker refused the event: %w", err)
		}
		select {
		case why := <-refused:
			return nil, fmt.Errorf("the broker refused the event: %w", why)
		case <-ctx.Done():
			return nil, fmt.Errorf("not acknowledged within %s: %w", giveUpAfter, err)
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
