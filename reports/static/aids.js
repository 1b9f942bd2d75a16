"use strict";
(() => {
  // ---- Reasons of missing values, on hover and on focus. ----
  const tip = document.getElementById("tip");
  const show = (target) => {
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const box = target.getBoundingClientRect();
    const own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), window.innerWidth - own.width - 8);
    const above = box.top - own.height - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  };
  const hide = () => { tip.hidden = true; };
  document.querySelectorAll("[data-tip]").forEach((target) => {
    target.removeAttribute("title");
    for (const name of ["mouseenter", "focus"]) target.addEventListener(name, () => show(target));
    for (const name of ["mouseleave", "blur"]) target.addEventListener(name, hide);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  window.addEventListener("scroll", hide, { passive: true });

  // ---- A figure over the whole width. ----
  document.querySelectorAll("figure figcaption").forEach((caption) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Enlarge";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const large = caption.parentElement.classList.toggle("large");
      button.setAttribute("aria-pressed", String(large));
      button.textContent = large ? "Make smaller" : "Enlarge";
    });
    caption.append(" ", button);
  });

  // ---- Print everything: open what is folded, and fold it again afterwards. ----
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((details) => { details.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
})();
