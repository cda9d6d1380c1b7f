// Publish one event of the logistics catalogue: a parcel was scanned, loaded or delivered.
//
//	./publisher DEPOT PARCEL in_depot|in_transit|delivered
//
// It imports the NATS client and nothing of Beaconfire. It exits with 0 when the broker has stored the event.
// ../../go has a longer publisher, which waits for a broker that is away and explains refusals.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

const user = "logistics"

type event struct {
	ID       string         `json:"id"`
	Type     string         `json:"type"`
	Version  int            `json:"version"`
	Payload  map[string]any `json:"payload"`
	Metadata map[string]any `json:"metadata"`
}

func main() {
	if len(os.Args) != 4 {
		fail("usage: publisher DEPOT PARCEL in_depot|in_transit|delivered")
	}
	offset, err := publish(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fail(err)
	}
	fmt.Println("published, offset", offset)
}

func publish(depot, parcel, status string) (uint64, error) {
	nc, err := nats.Connect(os.Getenv("BEACONFIRE_NATS_URL"),
		nats.UserInfo(user, os.Getenv("BEACONFIRE_LOGISTICS_PASSWORD")),
		// The broker lets a user receive answers under this prefix only.
		nats.CustomInboxPrefix("_INBOX_"+user))
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		return 0, err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return 0, err
	}
	id := hex.EncodeToString(random)
	body, err := json.Marshal(event{
		ID:      id,
		Type:    "parcel.moved",
		Version: 1,
		// The ids are in the subject, too. A payload may leave them out. If it has them, they must be the same.
		Payload:  map[string]any{"depotId": depot, "parcelId": parcel, "status": status},
		Metadata: map[string]any{"timestamp": time.Now().UTC(), "source": "logistics"},
	})
	if err != nil {
		return 0, err
	}
	msg := nats.NewMsg("depot." + depot + ".parcel." + parcel)
	msg.Data = body
	// The broker drops a repeat with the same id, so it is safe to publish the same event again after an error.
	msg.Header.Set(nats.MsgIdHdr, id)
	ack, err := js.PublishMsg(msg, nats.ExpectStream("EVENTS"))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, "publisher:", why)
	os.Exit(1)
}
