// Uploads: archives on their way in, and what became of them.

import { age, badge, bytes, code, progress } from "./dom.js";
import { nameColumn, reasonText } from "./pages.js";

export const uploads = {
  path: "uploads",
  timeline: "uploads",
  title: "Uploads",
  empty: "No uploads. Send an archive: modelyard images push.",
  name: ({ name, id }) => name ?? id,
  columns: () => [
    nameColumn("Upload", "uploads", "id", ({ name, id, message }) => [name ?? id, message],
      ([message]) => [reasonText(message)]),
    { title: "Status", read: state, show: showState },
    { title: "Size", read: ({ length }) => length, show: bytes },
    { title: "Age", read: ({ created_at: at }) => at, show: age },
  ],
  facts: () => [
    { title: "Status", read: state, show: showState },
    { title: "Reason", read: ({ message }) => message, show: reasonText },
    { title: "Detail", read: ({ technicalInformation: detail }) => detail, show: reasonText },
    { title: "Arrived", read: ({ offset, length }) => [offset, length],
      show: ([offset, length]) => `${bytes(offset)} of ${bytes(length)}` },
    { title: "Image", read: ({ image }) => image?.reference, show: code },
    { title: "Digest", read: ({ image }) => image?.digest, show: code },
    { title: "Begun", read: ({ created_at: at }) => at, show: age },
    { title: "ID", read: ({ id }) => id, show: code },
  ],
};

const state = ({ status, percentage }) => [status.toUpperCase(), percentage];

const showState = ([status, percentage]) =>
  [badge(status), ...(status === "RECEIVING" ? [progress("Upload", percentage)] : [])];
