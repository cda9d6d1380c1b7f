"use client";

import { BeaconfireProvider, ConnectionIndicator, ToastProvider } from "@beaconfire/react";

export function Live({ children }) {
  return (
    <BeaconfireProvider url="wss://live.example/ws" getToken={async () => "token"} user="u1">
      <ToastProvider>
        <ConnectionIndicator />
        {children}
      </ToastProvider>
    </BeaconfireProvider>
  );
}
