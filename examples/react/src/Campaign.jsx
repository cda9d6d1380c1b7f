import { useCacheSync, usePresence, useToasts, useWebSocketConnection } from "@beaconfire/react";
import { useState } from "react";

import { call } from "./session.js";

export function Campaign({ id, data }) {
  useCacheSync(`campaign:${id}`, data.useCache());
  const { data: campaign } = data.useCampaignData(id);
  const { data: settlements, error } = data.useSettlements(id);
  const change = useChange();
  if (error) return <p role="alert">{error.message}</p>;
  if (!campaign || !settlements) return <p>Loading…</p>;
  return (
    <>
      <section>
        <h2>{campaign.name}</h2>
        <People room={`campaign:${id}`} />
        <p className="row">
          <time dateTime={campaign.worldTime}>{new Date(campaign.worldTime).toLocaleString("en-GB", { timeZone: "UTC" })}</time>
          <button onClick={() => change("POST", `/campaigns/${id}/world-time`, { advanceSeconds: 3600 })}>Advance an hour</button>
        </p>
      </section>
      <section>
        <h2>Settlements</h2>
        <ul>{settlements.map((one) => <Settlement key={one.id} campaign={id} settlement={one} data={data} change={change} />)}</ul>
        <Found onFound={(name) => change("POST", `/campaigns/${id}/settlements`, { name })} />
      </section>
    </>
  );
}

/** Change something, and return when its event has come back. A refusal is shown as a notice. */
function useChange() {
  const client = useWebSocketConnection();
  const { show } = useToasts();
  return async (method, path, body) => {
    try {
      const { mark } = await call(method, path, body);
      await client.seen(mark);
    } catch (error) {
      show(error.message, { kind: "bad" });
    }
  };
}

function People({ room }) {
  const { count, users, isKnown } = usePresence(room);
  if (!isKnown) return null;
  return (
    <p className="people">
      {users.map(({ userId, status }) => <span key={userId} className="face" data-status={status} title={userId} aria-hidden="true" />)}
      {count === 1 ? "Only you are here." : `${count} people are here.`}
    </p>
  );
}

function Settlement({ campaign, settlement, data, change }) {
  const [isOpen, setIsOpen] = useState(false);
  const [isSaving, setIsSaving] = useState(false);
  const path = `/campaigns/${campaign}/settlements/${settlement.id}`;
  const save = async (method, body) => {
    setIsSaving(true);
    await change(method, path, body);
    setIsSaving(false);
  };
  return (
    <li data-name={settlement.name}>
      <div className="row">
        <strong>{settlement.name}</strong>
        <span>{settlement.kind}, level {settlement.level}</span>
        <span className="row end">
          <button aria-expanded={isOpen} onClick={() => setIsOpen(!isOpen)}>Structures</button>
          <button disabled={isSaving} onClick={() => save("PATCH", { level: settlement.level + 1 })}>
            {isSaving ? "Saving…" : "Level up"}
          </button>
          <button disabled={isSaving} aria-label={`Delete ${settlement.name}`} onClick={() => save("DELETE")}>×</button>
        </span>
      </div>
      {isOpen && <Structures campaign={campaign} settlement={settlement.id} data={data} change={change} />}
    </li>
  );
}

function Structures({ campaign, settlement, data, change }) {
  const { data: structures, error } = data.useStructures(campaign, settlement);
  if (error) return <p role="alert">{error.message}</p>;
  if (!structures) return <p>Loading…</p>;
  const path = `/campaigns/${campaign}/settlements/${settlement}/structures`;
  return (
    <ul>
      {structures.map(({ id, name, level }) => <li key={id}>{name}, level {level}</li>)}
      <li><button onClick={() => change("POST", path, { name: "Watchtower" })}>Build a watchtower</button></li>
    </ul>
  );
}

function Found({ onFound }) {
  const [name, setName] = useState("");
  const submit = (event) => {
    event.preventDefault();
    setName("");
    void onFound(name);
  };
  return (
    <form className="row" onSubmit={submit}>
      <input aria-label="Name of the new settlement" placeholder="Name" value={name} onChange={(event) => setName(event.target.value)} required maxLength={100} />
      <button>Found a settlement</button>
    </form>
  );
}
