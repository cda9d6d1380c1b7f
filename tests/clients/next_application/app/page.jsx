import { Members } from "./members.jsx";

export default function Page() {
  return <Members id="w1" />;
}
