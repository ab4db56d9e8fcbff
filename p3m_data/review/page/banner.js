// The banner that says that nothing can be saved just now, and what to do.

import { connection } from "./api.js";
import { toast } from "./toast.js";

const KEPT = "Strokes are kept here until it is back; leave this tab open.";

/** Calls `changed` with the banner's words, null when the server is back. */
export function watchConnection(changed) {
  const banner = document.getElementById("banner");
  const tell = (words) => {
    banner.hidden = !words;
    banner.textContent = words ?? "";
    changed(words);
  };
  connection.addEventListener("away", () =>
    tell(
      `Not saved: the server is away. ${KEPT} If it was stopped, start it again with the same command and --port ${location.port}.`,
    ),
  );
  connection.addEventListener("locked", () =>
    tell(
      `Not saved: the server was started again and does not know this browser yet. Open the new link that the terminal shows. ${KEPT}`,
    ),
  );
  connection.addEventListener("back", () => {
    tell(null);
    toast("The server is back.");
  });
}
