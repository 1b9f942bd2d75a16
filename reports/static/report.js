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

  // ---- Filter by method, track, task and data set, in the whole page at once. ----
  const filters = document.getElementById("filters");
  const text = document.getElementById("filter-text");
  const boxes = (name) => [...filters.querySelectorAll(`[name=${name}]`)];
  const ticked = (name) => {
    const all = boxes(name);
    const values = new Set(all.filter((box) => box.checked).map((box) => box.value));
    return (value) => !all.length || value === undefined || values.has(value);
  };

  const filterRows = (hasTrack) => {
    const wanted = text.value.toLowerCase().split(",").map((part) => part.trim()).filter(Boolean);
    const named = (row) => !wanted.length || wanted.some((part) => row.dataset.search.includes(part));
    document.querySelectorAll("table.methods").forEach((table) => {
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.matches(".group"));
        rows.forEach((row) => { row.hidden = !(hasTrack(row.dataset.track) && named(row)); });
        body.hidden = rows.every((row) => row.hidden);
      }
    });
  };

  const filterPlaces = (hasTask, hasDataset) => {
    document.querySelectorAll("[data-task]").forEach((place) => {
      place.hidden = !(hasTask(place.dataset.task) && hasDataset(place.dataset.dataset));
    });
    document.querySelectorAll("#across, #curves").forEach((section) => {
      section.hidden = ![...section.querySelectorAll("[data-task]")].some((place) => !place.hidden);
    });
  };

  const applyFilter = () => {
    filterRows(ticked("track"));
    filterPlaces(ticked("task"), ticked("dataset"));
    let shown = 0;
    document.querySelectorAll("#boards .board").forEach((board) => {
      const rows = [...board.querySelectorAll(".ranking tr[data-method]:not([hidden])")];
      const visible = new Set(rows.map((row) => row.dataset.method));
      board.querySelectorAll("figure[data-method]").forEach((figure) => { figure.hidden = !visible.has(figure.dataset.method); });
      shown += board.hidden ? 0 : rows.length;
    });
    const all = document.querySelectorAll(".ranking tr[data-method]").length;
    status("filter-status", shown === all ? `${all} rows` : `${shown} of ${all} rows`);
  };

  filters.hidden = false;
  filters.addEventListener("input", (event) => {
    if (event.target.name === "scale") reweighAll();
    else applyFilter();
    keepState();
  });
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.reset();
  applyFilter();

  // ---- Another scale or other weights: recompute the scores of each split, then average and rank. ----
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  const deviation = (values) => {
    const middle = mean(values);
    return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
  };

  const number = (value) => value.toFixed(3).replace(/^-(0\.000)$/, "$1").replace("-", "−");

  // The numbers that the page was written with, to restore them exactly.
  const written = new Map();
  const remember = (cell) => {
    const detail = cell.querySelector(".sd");
    written.set(cell, {
      v: cell.dataset.v, text: cell.querySelector(".val").textContent,
      detail: detail && detail.textContent, share: cell.style.getPropertyValue("--v"),
    });
  };
  document.querySelectorAll(".ranking td[data-key][data-v]").forEach(remember);

  const writeCell = (cell, { v, text: words, detail, share }) => {
    if (v === undefined) delete cell.dataset.v;
    else cell.dataset.v = v;
    cell.querySelector(".val").textContent = words;
    const spread = cell.querySelector(".sd");
    if (spread) spread.textContent = detail || "";
    if (share !== "") cell.style.setProperty("--v", share);
  };

  const score = (values, spread) => {
    if (!values.length) return { v: undefined, text: "–", detail: "", share: 0 };
    const v = mean(values);
    return { v, text: number(v), detail: values.length > 1 ? spread(v, deviation(values)) : "", share: Math.min(Math.max(v, 0), 1) };
  };

  const interval = (half, isOwn) => (middle, std) => {
    if (half === null) return `± ${number(std)}`;
    const ends = [middle - half * std, middle + half * std];
    // On the own range no score lies beyond 0 and 1.
    return `[${ends.map((end) => number(isOwn ? Math.min(Math.max(end, 0), 1) : end)).join(", ")}]`;
  };

  // An aspect that is left out on these data is null; the other weights are scaled to add up to 1.
  const weighed = (aspects, weights) => {
    const known = aspects.map((value, i) => [value, weights[i]]).filter(([value, weight]) => value !== null && weight > 0);
    const total = known.reduce((sum, [, weight]) => sum + weight, 0);
    return total > 0 ? known.reduce((sum, [value, weight]) => sum + weight * value, 0) / total : null;
  };

  const writeScores = (row, scale, weights) => {
    const { half, units } = JSON.parse(row.dataset.scales)[scale];
    const overall = units.map((aspects) => weighed(aspects, weights)).filter((value) => value !== null);
    const spread = overall.length === units.length ? half : null;
    const write = (key, values, spread) => {
      const cell = row.querySelector(`td[data-key=${key}]`);
      if (cell && written.has(cell)) writeCell(cell, score(values, spread));
    };
    write("overall", overall, interval(spread, scale === "own"));
    const known = (i) => units.map((aspects) => aspects[i]).filter((value) => value !== null);
    weights.forEach((_, i) => write(`aspect-${i}`, known(i), (_mean, std) => `± ${number(std)}`));
  };

  const writeRanks = (body) => {
    const rows = [...body.rows].filter((row) => written.has(row.querySelector("td[data-key=rank]")));
    const values = rows.map((row) => row.querySelector("td[data-key=overall]").dataset.v).map((v) => (v === undefined ? NaN : Number(v)));
    rows.forEach((row, index) => {
      const rank = 1 + values.filter((value) => value > values[index] + 1e-12).length;
      const known = !Number.isNaN(values[index]);
      writeCell(row.querySelector("td[data-key=rank]"), { v: known ? rank : undefined, text: known ? rank : "–", share: "" });
    });
  };

  const restoreCells = (table) => {
    table.querySelectorAll("td[data-key]").forEach((cell) => { if (written.has(cell)) writeCell(cell, written.get(cell)); });
  };

  const sortAgain = (table) => {
    const heads = sortableHeads(table);
    const sorted = heads.findIndex((head) => head.hasAttribute("aria-sort"));
    sortBy(table, heads[sorted], sorted, heads[sorted].getAttribute("aria-sort"));
  };

  const presetOf = (button) => button.dataset.weights.split(" ").map(Number);
  const ownWeights = (box) => presetOf(box.querySelector("button"));
  const slidersOf = (box) => [...box.querySelectorAll("input")];
  // Where the sliders stand as the page was written, rounded to their steps.
  const starts = new Map();
  const isMoved = (box) => slidersOf(box).some((range, i) => range.value !== starts.get(box)[i]);

  // The places of the sliders, scaled to add up to 1; all at 0 count the same.
  const weightsOf = (box) => {
    const places = slidersOf(box).map((range) => Number(range.value));
    const total = places.reduce((sum, place) => sum + place, 0);
    return places.map((place) => (total > 0 ? place / total : 1 / places.length));
  };

  const showWeights = (box) => {
    const weights = weightsOf(box);
    slidersOf(box).forEach((range, i) => {
      range.parentElement.querySelector("output").textContent = weights[i].toFixed(2);
      range.setAttribute("aria-valuetext", weights[i].toFixed(2));
    });
  };

  const chosenWeights = (box) => {
    const weights = weightsOf(box);
    return slidersOf(box).map((range, i) => `${range.labels[0].textContent.toLowerCase()} weighs ${weights[i].toFixed(2)}`).join(", ");
  };

  const chosenInWords = (scale, hasScale, moved, other) => {
    const scales = { controls: "between the controls of each split", raw: "unscaled, mirrored if lower is better" };
    const parts = [];
    if (moved) parts.push(moved);
    if (scale !== "own") parts.push(hasScale ? `metrics are taken ${scales[scale]}` : "fewer than two controls are complete: the scale stays each metric’s own range");
    if (!parts.length) return "";
    return `Overall, aspects and ranks: ${parts.join("; ")}. ${other ? `“${other}”, ` : ""}“Versus best”, “Between controls”, the overview and the other tables are unchanged.`;
  };

  const reweigh = (board) => {
    const table = board.querySelector("table.ranking");
    const box = board.querySelector(".weights");
    const chosen = filters.querySelector("[name=scale]:checked").value;
    const rows = [...table.querySelectorAll("tr[data-scales]")];
    const hasScale = rows.every((row) => chosen in JSON.parse(row.dataset.scales));
    const scale = hasScale ? chosen : "own";
    const isDefault = !box || !isMoved(box);
    if (box) showWeights(box);
    if (scale === "own" && isDefault) restoreCells(table);
    else {
      const weights = box ? (isDefault ? ownWeights(box) : weightsOf(box)) : [1];
      rows.forEach((row) => writeScores(row, scale, weights));
      for (const body of table.tBodies) writeRanks(body);
    }
    const words = chosenInWords(chosen, hasScale, isDefault ? "" : chosenWeights(box), box && box.dataset.other);
    const line = board.querySelector(".chosen");
    line.textContent = words;
    line.hidden = !words;
    sortAgain(table);
  };

  // A declaration, since the filters above call it.
  function reweighAll() {
    document.querySelectorAll("#boards .board").forEach(reweigh);
    const scale = filters.querySelector("[name=scale]:checked");
    status("sort-status", `Scale: ${scale.parentElement.textContent.trim()}.`);
  }

  const setWeights = (box, weights) => slidersOf(box).forEach((range, i) => { range.value = weights[i]; });

  document.querySelectorAll(".weights").forEach((box) => {
    const changed = () => { reweigh(box.closest(".board")); keepState(); };
    setWeights(box, ownWeights(box));
    starts.set(box, slidersOf(box).map((range) => range.value));
    showWeights(box);
    box.hidden = false;
    box.addEventListener("input", changed);
    box.querySelectorAll("button").forEach((button) => {
      button.addEventListener("click", () => { setWeights(box, presetOf(button)); changed(); });
    });
  });

  // ---- The address keeps the place, filters, weights and sorting, so that a link shows the same. ----
  const address = () => {
    const written = location.hash.slice(1);
    try { return decodeURI(written).split("?"); } catch { return written.split("?"); }
  };
  const [place, query] = address();

  const HIDDEN = [["track", "hide"], ["task", "hide-task"], ["dataset", "hide-data"]];

  const chosenState = () => {
    const state = new URLSearchParams();
    if (text.value.trim()) state.set("find", text.value.trim());
    for (const [name, key] of HIDDEN) {
      boxes(name).filter((box) => !box.checked).forEach((box) => state.append(key, box.value));
    }
    const scale = filters.querySelector("[name=scale]:checked").value;
    if (scale !== "own") state.set("scale", scale);
    document.querySelectorAll(".weights").forEach((box) => {
      if (isMoved(box)) state.set(box.id, slidersOf(box).map((range) => range.value).join("~"));
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
    for (const [name, key] of HIDDEN) {
      const hidden = new Set(state.getAll(key));
      boxes(name).forEach((box) => { box.checked = !hidden.has(box.value); });
    }
    boxes("scale").forEach((radio) => { radio.checked = radio.value === (state.get("scale") || "own"); });
    if (!filters.querySelector("[name=scale]:checked")) boxes("scale")[0].checked = true;
    applyFilter();
    for (const [id, value] of state) {
      const target = document.getElementById(id);
      const weights = value.split("~");
      if (target && target.matches(".weights") && weights.length === slidersOf(target).length && weights.every((weight) => weight !== "" && weight >= 0 && weight <= 1)) setWeights(target, weights);
      if (!target || !target.matches("table.methods")) continue;
      const [direction, index] = value.split("-");
      const head = sortableHeads(target)[Number(index)];
      if (head && ["ascending", "descending"].includes(direction)) sortBy(target, head, Number(index), direction);
    }
    reweighAll();
  };

  // The target of a link opens: the entry of a method, or its runs on one board.
  const open = (id) => {
    const target = document.getElementById(id);
    if (!target) return target;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    if (target.matches("tr")) target.querySelectorAll("details").forEach((runs) => { runs.open = true; });
    return target;
  };

  if (query) restore(new URLSearchParams(query));
  const target = open(place);
  if (target && (query || target.matches("tr"))) target.scrollIntoView({ behavior: "instant" });
  window.addEventListener("hashchange", () => {
    const led = open(address()[0]);
    if (led && led.matches("tr")) led.scrollIntoView({ block: "center" });
    if (!location.hash.includes("?")) keepState();
  });
})();
