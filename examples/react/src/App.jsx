/** A campaign that several people change at the same time. */

import { BeaconfireProvider, ConnectionIndicator, ToastProvider } from "@beaconfire/react";
import "@beaconfire/client/styles.css";
import { StrictMode, useState } from "react";

import { Campaign } from "./Campaign.jsx";
import { getToken, PEOPLE, signIn, signOut } from "./session.js";
import "./style.css";

const SOCKET = `${location.origin.replace("http", "ws")}/ws`;

/** The events that are worth a notice. */
const NOTICES = {
  settlement_updated: ({ payload }) => (payload.operation === "create" ? "A settlement was founded." : null),
};

/** @param {{data: typeof import("./tanstack.js"), title: string}} props  `data`: the hooks of one library */
export function App({ data, title }) {
  const [user, setUser] = useState(null);
  return (
    <StrictMode>
      <BeaconfireProvider url={SOCKET} getToken={getToken} user={user?.id} enabled={user !== null}>
        <ToastProvider events={NOTICES}>
          <header>
            <h1>Campaign <small>with {title}</small></h1>
            <ConnectionIndicator isSignedIn={user !== null} />
            {user && <button onClick={() => (signOut(), location.reload())}>Sign out {user.name}</button>}
          </header>
          <main>{user ? <FirstCampaign data={data} /> : <SignIn onUser={setUser} />}</main>
        </ToastProvider>
      </BeaconfireProvider>
    </StrictMode>
  );
}

function SignIn({ onUser }) {
  const [error, setError] = useState("");
  const enter = (name) => signIn(name).then(onUser, ({ message }) => setError(message));
  return (
    <section>
      <h2>Who are you?</h2>
      <p>Open this page in two windows, and be another person in each.</p>
      <p className="row">{PEOPLE.map((name) => <button key={name} onClick={() => enter(name)}>{name}</button>)}</p>
      {error && <p role="alert">{error}</p>}
    </section>
  );
}

function FirstCampaign({ data }) {
  const { data: campaigns, isPending, error } = data.useCampaigns();
  if (error) return <p role="alert">{error.message}</p>;
  if (isPending) return <p>Loading…</p>;
  if (campaigns.length === 0) return <p>You are in no campaign.</p>;
  return <Campaign id={campaigns[0].id} data={data} />;
}
