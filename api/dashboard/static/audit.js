// Who did what, and from where.

import { address, clock, code, link, make, soft } from "./dom.js";
import { PAGES } from "./events.js";

export const audit = {
  path: "audit",
  title: "Audit trail",
  filters: ["actor", "action", "target", "origin"],
  empty: "Nothing was done yet.",
  columns: () => [
    { title: "Action", read: ({ action, name, target }) => [action, name, target], show: showAction },
    { title: "Who", read: ({ actor }) => actor, show: actor => narrower("actor", actor) },
    { title: "From", read: ({ origin }) => origin, show: origin => narrower("origin", origin) },
    { title: "When", read: ({ time }) => time, show: time => [
      make("div", {}, new Date(time).toLocaleDateString()), clock(time)] },
    { title: "Request", read: ({ request }) => request ?? "", show: id => (id ? code(id) : "") },
  ],
};

const narrower = (name, value) => make("a", { href: address(["audit"], { [name]: value }) }, value);

function showAction([action, name, target]) {
  const page = PAGES[action.split(".")[0]];
  return [
    make("strong", {}, narrower("action", action)),
    make("div", {}, page ? link([page, target], name ?? target) : soft(name ?? target, "span")),
  ];
}
