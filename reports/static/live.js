"use strict";
(() => {
  const box = document.getElementById("again");
  const input = box.querySelector("input");
  const paused = location.hash === "#paused";
  box.hidden = false;
  input.checked = !paused;
  input.addEventListener("change", () => { history.replaceState(null, "", input.checked ? "#" : "#paused"); });
  setInterval(() => { if (input.checked) location.reload(); }, Number(box.dataset.interval));
})();
