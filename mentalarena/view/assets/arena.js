// Keys, and following what is still being written. Pages work without it.
"use strict";
const steps = () => [...document.querySelectorAll("main article[id], main tbody tr a:first-of-type")];
let at = -1;
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector("input[type=search]").focus();
  } else if (event.key === "j" || event.key === "k") {
    const all = steps();
    const now = all.indexOf(document.activeElement);
    at = now >= 0 ? now : at;
    at = Math.max(0, Math.min(all.length - 1, at + (event.key === "j" ? 1 : -1)));
    if (all[at]) { all[at].focus(); all[at].scrollIntoView({ block: "center" }); }
  }
});
// A page of something that goes on is fetched again; what the reader has opened is left alone.
const pause = Number(document.body.dataset.live);
async function follow() {
  const busy = document.hidden || document.querySelector("main details[open], [popover]:popover-open")
    || document.querySelector("main").contains(document.activeElement) && document.activeElement.id !== "main";
  if (!busy) {
    try {
      const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      document.querySelector("main").innerHTML = page.querySelector("main").innerHTML;
      if (!page.body.dataset.live) return;
    } catch { /* the viewer was closed: what is shown stays */ }
  }
  setTimeout(follow, pause);
}
if (pause) setTimeout(follow, pause);
