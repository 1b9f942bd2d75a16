"use strict";
(() => {
  const status = (id, text) => { document.getElementById(id).textContent = text; };

  // ---- Sorting: inside each group of rows, so that tracks are never mixed; missing values last. ----
  const keyOf = (cell) => {
    const raw = cell.dataset.v;
    if (raw === undefined) return null;
    return cell.matches(".name") ? raw : Number(raw);
  };

  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  };

  const sortRows = (table, index, sign) => {
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.matches(".group"));
      rows.map((row) => [keyOf(row.cells[index]), row])
        .sort((a, b) => compare(a[0], b[0], sign))
        .forEach(([, row]) => body.append(row));
    }
  };

  const sortBy = (table, head, index, direction) => {
    table.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
    sortRows(table, index, direction === "ascending" ? 1 : -1);
  };

  const onSort = (table, head, index) => {
    const first = head.dataset.best === "low" ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = head.getAttribute("aria-sort") === first ? other : first;
    sortBy(table, head, index, direction);
    status("sort-status", `Sorted by ${head.querySelector(".title").textContent}, ${direction}.`);
    keepState();
  };

  // Headers over several columns are not sortable; the others stand in the order of the cells.
  const sortableHeads = (table) => {
    const heads = [...table.tHead.querySelectorAll("th[scope=col]")];
    const name = heads.find((head) => head.rowSpan > 1);
    return name ? [name, ...heads.filter((head) => head !== name)] : heads;
  };

  document.querySelectorAll("table.methods").forEach((table) => {
    sortableHeads(table).forEach((head, index) => {
      const title = head.querySelector(".title");
      const button = document.createElement("button");
      button.type = "button";
      title.replaceWith(button);
      button.append(title);
      button.addEventListener("click", () => onSort(table, head, index));
    });
    const rank = table.querySelector("th[data-key=rank]");
    if (rank) rank.setAttribute("aria-sort", "ascending");
  });

  // ---- Filter by text and track, in every board at once. ----
  const filters = document.getElementById("filters");
  const text = document.getElementById("filter-text");
  const tracks = [...filters.querySelectorAll("[name=track]")];

  const applyFilter = () => {
    const wanted = text.value.trim().toLowerCase();
    const chosen = new Set(tracks.filter((box) => box.checked).map((box) => box.value));
    const shows = (row) => chosen.has(row.dataset.track) && row.dataset.search.includes(wanted);
    let shown = 0;
    let all = 0;
    document.querySelectorAll("table.methods").forEach((table) => {
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.matches(".group"));
        rows.forEach((row) => { row.hidden = !shows(row); });
        body.hidden = rows.every((row) => row.hidden);
        if (!table.matches(".ranking")) continue;
        all += rows.length;
        shown += rows.filter((row) => !row.hidden).length;
      }
    });
    document.querySelectorAll(".board").forEach((board) => {
      const visible = new Set([...board.querySelectorAll(".ranking tr[data-method]:not([hidden])")]
        .map((row) => row.dataset.method));
      board.querySelectorAll("figure[data-method]").forEach((figure) => { figure.hidden = !visible.has(figure.dataset.method); });
    });
    status("filter-status", shown === all ? `${all} rows` : `${shown} of ${all} rows`);
  };

  filters.hidden = false;
  filters.addEventListener("input", () => { applyFilter(); keepState(); });
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.reset();
  applyFilter();

  // ---- Other weights: the overall score of each run is computed again, then averaged. ----
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  const deviation = (values) => {
    const middle = mean(values);
    return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
  };

  const writeOverall = (row, weight) => {
    const cell = row.querySelector("td[data-key=overall]");
    const splits = JSON.parse(row.dataset.aspects).map(([batch, bio]) => weight * batch + (1 - weight) * bio);
    if (!splits.length || cell.dataset.v === undefined) return;
    const value = mean(splits);
    cell.dataset.v = value;
    cell.style.setProperty("--v", value);
    cell.querySelector(".val").textContent = value.toFixed(3);
    const detail = cell.querySelector(".sd");
    if (!detail || !row.dataset.halfWidth) return;
    const half = Number(row.dataset.halfWidth) * deviation(splits);
    const ends = [Math.max(value - half, 0), Math.min(value + half, 1)];
    detail.textContent = `[${ends.map((end) => end.toFixed(3)).join(", ")}]`;
  };

  const writeRanks = (body) => {
    const rows = [...body.rows].filter((row) => row.querySelector("td[data-key=rank][data-v]"));
    const values = rows.map((row) => Number(row.querySelector("td[data-key=overall]").dataset.v));
    rows.forEach((row, index) => {
      const rank = 1 + values.filter((value) => value > values[index] + 1e-12).length;
      const cell = row.querySelector("td[data-key=rank]");
      cell.dataset.v = rank;
      cell.querySelector(".val").textContent = rank;
    });
  };

  document.querySelectorAll(".weights").forEach((box) => {
    const table = box.closest(".board").querySelector("table.ranking");
    const range = box.querySelector("input");
    const apply = () => {
      const weight = Number(range.value);
      box.querySelector("output").textContent = weight.toFixed(2);
      box.querySelector(".fixed").hidden = weight === Number(box.dataset.default);
      table.querySelectorAll("tr[data-aspects]").forEach((row) => writeOverall(row, weight));
      for (const body of table.tBodies) writeRanks(body);
      const heads = sortableHeads(table);
      const sorted = heads.findIndex((head) => head.hasAttribute("aria-sort"));
      sortBy(table, heads[sorted], sorted, heads[sorted].getAttribute("aria-sort"));
    };
    box.hidden = false;
    range.value = box.dataset.default;
    range.addEventListener("input", () => { apply(); keepState(); });
    range.addEventListener("restore", apply);
    box.querySelector("button").addEventListener("click", () => { range.value = box.dataset.default; apply(); keepState(); });
  });

  // ---- The address keeps what was chosen: place, filters, weights and sorting, so that a link shows the same. ----
  const [place, query] = decodeURI(location.hash.slice(1)).split("?");

  const chosenState = () => {
    const state = new URLSearchParams();
    if (text.value.trim()) state.set("find", text.value.trim());
    tracks.filter((box) => !box.checked).forEach((box) => state.append("hide", box.value));
    document.querySelectorAll(".weights").forEach((box) => {
      const range = box.querySelector("input");
      if (range.value !== box.dataset.default) state.set(range.id, range.value);
    });
    document.querySelectorAll("table.methods").forEach((table) => {
      const heads = sortableHeads(table);
      const sorted = heads.findIndex((head) => head.hasAttribute("aria-sort"));
      const direction = sorted < 0 ? "" : heads[sorted].getAttribute("aria-sort");
      const asWritten = sorted < 0 || (heads[sorted].dataset.key === "rank" && direction === "ascending");
      if (!asWritten) state.set(table.id, `${direction}-${sorted}`);
    });
    return state.toString();
  };

  // A declaration, since the handlers above call it.
  function keepState() {
    const state = chosenState();
    const here = location.hash.slice(1).split("?")[0];
    history.replaceState(null, "", `#${here}${state ? `?${state}` : ""}`);
  }

  const restore = (state) => {
    text.value = state.get("find") || "";
    const hidden = new Set(state.getAll("hide"));
    tracks.forEach((box) => { box.checked = !hidden.has(box.value); });
    applyFilter();
    for (const [id, value] of state) {
      const target = document.getElementById(id);
      if (target && target.matches("input[type=range]")) {
        target.value = value;
        target.dispatchEvent(new Event("restore"));
      }
      if (!target || !target.matches("table.methods")) continue;
      const [direction, index] = value.split("-");
      const head = sortableHeads(target)[Number(index)];
      if (head && ["ascending", "descending"].includes(direction)) sortBy(target, head, Number(index), direction);
    }
  };

  // The entry of a method opens when it is led to.
  const open = (id) => {
    const target = document.getElementById(id);
    if (target && target.matches("details")) target.open = true;
    return target;
  };

  if (query) restore(new URLSearchParams(query));
  const target = open(place);
  if (target && query) target.scrollIntoView({ behavior: "instant" });
  window.addEventListener("hashchange", () => {
    open(location.hash.slice(1).split("?")[0]);
    if (!location.hash.includes("?")) keepState();
  });

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

  // ---- Print everything: what is folded away is opened, and folded again. ----
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((details) => { details.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
})();
