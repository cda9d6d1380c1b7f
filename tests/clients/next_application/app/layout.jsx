import "@beaconfire/client/styles.css";
import { Live } from "./live.jsx";

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>
        <Live>{children}</Live>
      </body>
    </html>
  );
}
