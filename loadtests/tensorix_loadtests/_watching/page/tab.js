// Beside Locust's own page: shows ours beneath the tabs while the tab "Tensorix" is chosen.
"use strict";
(() => {
  const frame = document.createElement("iframe");
  frame.title = "Tensorix";
  frame.hidden = true;
  Object.assign(frame.style, {
    position: "fixed", left: "0", right: "0", bottom: "0", width: "100%", border: "0", zIndex: "1",
  });
  document.body.append(frame);
  const look = () => {
    const chosen = [...document.querySelectorAll('[role="tab"][aria-selected="true"]')]
      .find((tab) => tab.textContent.trim() === "Tensorix");
    frame.hidden = !chosen;
    if (!chosen) return;
    if (!frame.src) frame.src = "./tensorix/";
    const top = Math.max(0, Math.ceil(chosen.getBoundingClientRect().bottom)) + 2;
    frame.style.top = `${top}px`;
    frame.style.height = `calc(100vh - ${top}px)`;
  };
  setInterval(look, 200);
  look();
})();
