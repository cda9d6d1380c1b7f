import { ApolloProvider } from "@apollo/client/react";
import { createRoot } from "react-dom/client";

import { App } from "./App.jsx";
import * as data from "./apollo.js";

createRoot(document.getElementById("root")).render(
  <ApolloProvider client={data.client}>
    <App data={data} title="Apollo Client" />
  </ApolloProvider>,
);
