// Trades the token of the link, which works once, for a session cookie.

const heading = document.querySelector("h1");
const said = document.getElementById("said");

function tell(title, sentence) {
  document.body.dataset.state = "refused";
  heading.textContent = title;
  said.textContent = sentence;
}

async function open() {
  const token = location.hash.slice(1);
  // The token must not stay in the address bar or in the history.
  history.replaceState(null, "", location.pathname);
  if (!token) {
    tell("This link is not complete", "Open the whole link that the terminal shows.");
    return;
  }
  try {
    const answer = await fetch("/api/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
    if (answer.ok) {
      location.replace("/");
      return;
    }
  } catch {
    tell("The review is not running", "Start p3mdata review again and open the link that the terminal shows.");
    return;
  }
  tell("This link was used already or is out of date", "Open the newest link that the terminal shows.");
}

open();
