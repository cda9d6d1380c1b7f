import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createRoot } from "react-dom/client";

import { App } from "./App.jsx";
import * as data from "./tanstack.js";

// Events say when something is out of date, so time does not.
const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity } } });

createRoot(document.getElementById("root")).render(
  <QueryClientProvider client={queryClient}>
    <App data={data} title="TanStack Query" />
  </QueryClientProvider>,
);
