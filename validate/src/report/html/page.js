"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const entries = data.entries;
  if (!entries.length) return;
  document.querySelectorAll(".drawing").forEach((part) => { part.hidden = false; });
  const $ = (id) => document.getElementById(id);
  const number = (value) => value === null ? "–" : value === 0 ? "0" : value.toExponential(1);

  // One byte a row: 0 for no error, then logarithmic from 1e-9 to 10.
  const error = (level) => level === 0 ? 0 : 10 ** ((level - 1) / 254 * 10 - 9);
  const levels = entries.map((entry) =>
    entry.rows && Uint8Array.from(atob(entry.rows.bytes), (c) => c.charCodeAt(0)));
  const levelOf = (index, row) => levels[index] ? levels[index][Math.floor(row / entries[index].rows.per)] : 0;
  const rowCount = (entry) => entry.shape.slice(0, -1).reduce((a, b) => a * b, 1);

  // Colours from dark blue over red to yellow; no error has the panel's own colour.
  // They span the errors that there are, so that near ones can be told apart.
  let [low, high] = [255, 1];
  for (const list of levels) {
    for (const level of list ?? []) {
      if (!level) continue;
      low = Math.min(low, level);
      high = Math.max(high, level);
    }
  }
  if (low > high) [low, high] = [1, 255];
  low = Math.min(low, Math.max(1, high - 50));
  const stops = [[38, 40, 110], [110, 40, 150], [200, 45, 100], [242, 115, 45], [255, 225, 90]];
  const colour = (level) => {
    const at = Math.min(1, Math.max(0, (level - low) / Math.max(1, high - low))) * (stops.length - 1);
    const i = Math.min(stops.length - 2, Math.floor(at));
    return stops[i].map((value, c) => Math.round(value + (stops[i + 1][c] - value) * (at - i)));
  };

  // The noise of right runs, where there are some, else what rounding explains.
  const noisy = entries.some((entry) => entry.noise !== null);
  entries.forEach((entry) => { entry.floor = noisy ? entry.noise : entry.rounding; });
  if (noisy) document.querySelector(".key.rounding").textContent = "noise floor: the right runs";
  let chosen = data.first ?? 0;
  let token = levels[chosen] ? levels[chosen].indexOf(Math.max(...levels[chosen])) * entries[chosen].rows.per : 0;
  const fresh = entries.flatMap((entry, index) => entry.origin === "fresh" ? [index] : []);

  // ---- Error by depth
  const svg = $("depth");
  const space = { left: 52, right: 12, top: 10, bottom: 22 };
  const shape = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  let x, y;
  const drawDepth = () => {
    const { width, height } = svg.getBoundingClientRect();
    const values = entries.flatMap((e) => [e.l2, e.row, e.limit, e.floor]).filter((v) => v > 0);
    const low = Math.floor(Math.log10(Math.min(...values, 1e-3)));
    const high = Math.ceil(Math.log10(Math.max(...values, 1e-2)));
    const step = (width - space.left - space.right) / Math.max(1, entries.length - 1);
    const floor = height - space.bottom;
    x = (index) => space.left + index * step;
    // What is zero stands on the floor, below the lowest power of ten.
    y = (v) => v > 0 ? space.top + (high - Math.log10(v)) / (high - low) * (floor - 16 - space.top) : floor - 4;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    for (let power = low; power <= high; power++) {
      const at = y(10 ** power);
      svg.append(shape("line", { class: "grid", x1: space.left, x2: width - space.right, y1: at, y2: at }));
      svg.append(shape("text", { x: 6, y: at + 4 }, `1e${power}`));
    }
    svg.append(shape("text", { x: 6, y: floor }, "0"));
    const every = Math.max(1, Math.ceil(entries.length / 12));
    entries.forEach((entry, index) => {
      if (index % every === 0) svg.append(shape("text", { x: x(index) - 4, y: height - 6 }, entry.order ?? "–"));
    });
    for (const [name, key] of [["limit", "limit"], ["rounding", "floor"], ["row", "row"], ["l2", "l2"]]) {
      let path = "", pen = "M";
      entries.forEach((entry, index) => {
        const value = entry[key];
        if (value === null || (value === 0 && (key === "limit" || key === "floor"))) { pen = "M"; return; }
        path += `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = "L";
      });
      svg.append(shape("path", { class: `curve ${name}`, d: path }));
    }
    for (const index of fresh) {
      const [cx, cy] = [x(index), y(entries[index].l2 ?? 10 ** high)];
      svg.append(shape("path", { class: "mark", d: `M${cx} ${cy - 7}l6 7l-6 7l-6 -7z` }));
    }
    const cursor = shape("line", { class: "cursor", id: "cursor", y1: space.top, y2: floor });
    svg.append(cursor);
    moveCursor();
  };
  const moveCursor = () => {
    const cursor = $("cursor");
    cursor.setAttribute("x1", x(chosen));
    cursor.setAttribute("x2", x(chosen));
  };
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const part = (event.clientX - box.left - space.left) / (box.width - space.left - space.right);
    choose(Math.round(part * (entries.length - 1)));
  });
  svg.addEventListener("keydown", (event) => {
    const to = {
      ArrowRight: chosen + 1, ArrowLeft: chosen - 1, Home: 0, End: entries.length - 1,
      PageDown: chosen + 10, PageUp: chosen - 10,
      n: fresh.find((index) => index > chosen), p: fresh.findLast((index) => index < chosen),
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to);
  });

  // ---- The chosen site
  const element = (name, text, attributes = {}) => {
    const node = Object.assign(document.createElement(name), attributes);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const showSite = () => {
    const entry = entries[chosen];
    const list = element("ul");
    list.append(element("li",
      `${entry.class}, ${entry.dtype} [${entry.shape.join(", ")}], ${entry.order === null ? "in the candidate only" : `order ${entry.order}`}: ${entry.verdict.toLowerCase()}, ${entry.origin}`));
    list.append(element("li",
      `relative L2 ${entry.estimated ? "about " : ""}${number(entry.l2)}, worst row ${number(entry.row)}, max abs ${number(entry.abs)}; ` +
      `limit ${number(entry.limit)}, rounding explains ${number(entry.rounding)}` +
      (entry.noise === null ? "" : `, noise ${number(entry.noise)}`)));
    if (entry.verdict !== "equal") entry.lines.forEach((line) => list.append(element("li", line)));
    if (entry.inputs.length) {
      const item = element("li", "computes from ");
      entry.inputs.forEach((input, place) => {
        if (place) item.append(", ");
        const link = element("button", entries[input].name, { className: "link", type: "button" });
        link.addEventListener("click", () => {
          choose(input);
          // The link is gone: whoever came by keyboard goes on from here.
          $("site").focus();
        });
        item.append(link);
      });
      list.append(item);
    }
    $("site").replaceChildren(element("h3", entry.name), list);
  };

  // ---- Tokens and layers
  const groups = new Map();
  entries.forEach((entry, index) => {
    // Of an estimate nothing is known of the rows.
    if (entry.shape.length < 2 || entry.l2 === null || entry.estimated) return;
    const key = entry.shape.slice(0, -1).join(" × ");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(index);
  });
  for (const [key, members] of groups) {
    if (members.length > 1) $("group").append(element("option", `${key} (${members.length} sites)`, { value: key }));
  }
  const groupOf = (index) => entries[index].shape.slice(0, -1).join(" × ");
  const isLayer = (entry) => /\.\d+(@\d+)?$/.test(entry.name);
  const members = () => {
    const all = groups.get($("group").value) ?? [];
    const layers = all.filter((index) => isLayer(entries[index]));
    return $("layers").checked && layers.length ? layers : all;
  };
  const heat = $("heat");
  let lineHeight = 8;
  const drawHeat = () => {
    const list = members();
    heat.closest("section").hidden = !list.length;
    if (!list.length) return;
    const count = rowCount(entries[list[0]]);
    const columns = Math.min(count, Math.max(1, Math.round(heat.clientWidth || 1000)));
    lineHeight = Math.max(3, Math.min(14, Math.floor(560 / list.length)));
    heat.width = columns;
    heat.height = list.length;
    heat.style.height = `${list.length * lineHeight}px`;
    heat.style.imageRendering = "pixelated";
    const context = heat.getContext("2d");
    const image = context.createImageData(columns, list.length);
    list.forEach((index, line) => {
      for (let column = 0; column < columns; column++) {
        let level = 0;
        const end = Math.max(Math.floor((column + 1) * count / columns), Math.floor(column * count / columns) + 1);
        for (let row = Math.floor(column * count / columns); row < end; row++) level = Math.max(level, levelOf(index, row));
        if (level) image.data.set([...colour(level), 255], (line * columns + column) * 4);
      }
    });
    context.putImageData(image, 0, 0);
    showCell();
  };
  const place = (entry, row) => {
    const tokens = entry.shape[entry.shape.length - 2];
    const [outer, inner] = [Math.floor(row / tokens), row % tokens];
    const tiles = data.tiles?.images.length;
    const prefix = data.patches && tokens >= data.patches ? tokens - data.patches : 0;
    if (tiles && entry.shape.length === 3 && entry.shape[0] === tiles && (tiles > 1 || entry.name.startsWith("vision_model"))) {
      const side = Math.sqrt(tokens - prefix);
      if (inner < prefix) return `tile ${outer}, prefix token ${inner}`;
      if (Number.isInteger(side)) {
        return `tile ${outer}, row ${Math.floor((inner - prefix) / side)}, column ${(inner - prefix) % side}`;
      }
    }
    return entry.shape[0] > 1 ? `[${outer}, ${inner}]` : `token ${inner}`;
  };
  const showCell = () => {
    const entry = entries[chosen];
    if (entry.estimated || !groups.has(groupOf(chosen))) { $("cell").textContent = ""; return; }
    const count = rowCount(entry);
    token = Math.min(Math.max(token, 0), count - 1);
    const per = entry.rows?.per ?? 1;
    const near = per > 1 ? `, the worst of ${per}` : "";
    $("cell").textContent = `${entry.name}, ${place(entry, token)}: ${number(error(levelOf(chosen, token)))}${near}`;
  };
  heat.addEventListener("click", (event) => {
    const list = members();
    const box = heat.getBoundingClientRect();
    token = Math.floor((event.clientX - box.left) / box.width * rowCount(entries[list[0]]));
    choose(list[Math.min(list.length - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * list.length)))]);
  });
  heat.addEventListener("keydown", (event) => {
    const list = members();
    let line = list.indexOf(chosen);
    if (line < 0) line = 0;
    if (event.key === "ArrowDown") line++;
    else if (event.key === "ArrowUp") line--;
    else if (event.key === "ArrowRight") token++;
    else if (event.key === "ArrowLeft") token--;
    else return;
    event.preventDefault();
    choose(list[Math.min(list.length - 1, Math.max(0, line))]);
  });
  const drawScale = () => {
    const scale = $("scale");
    const ratio = window.devicePixelRatio || 1;
    scale.width = scale.clientWidth * ratio;
    scale.height = scale.clientHeight * ratio;
    const context = scale.getContext("2d");
    context.scale(ratio, ratio);
    const width = scale.clientWidth;
    for (let i = 0; i < width; i++) {
      context.fillStyle = `rgb(${colour(low + (high - low) * i / width)})`;
      context.fillRect(i, 4, 1, 12);
    }
    context.fillStyle = getComputedStyle(document.body).color;
    context.font = "11px ui-monospace, monospace";
    let free = 0;
    for (let power = -9; power <= 1; power++) {
      const at = (1 + 254 * (power + 9) / 10 - low) / (high - low) * width;
      if (at < 0 || at > width || at - 10 < free) continue;
      context.fillText(`1e${power}`, Math.min(width - 28, at - 10), 32);
      free = at + 26;
    }
  };
  $("group").addEventListener("change", drawHeat);
  $("layers").addEventListener("change", drawHeat);

  // ---- The picture
  const pictures = (data.tiles?.images ?? []).map((source) => {
    const image = new Image();
    image.addEventListener("load", () => drawPicture());
    image.src = source;
    return image;
  });
  if (!pictures.length) $("picture").hidden = true;
  /** The number of prefix tokens and the side of the grid, if a site has a row for each part of each tile. */
  const grid = (entry) => {
    if (entry.estimated || entry.shape.length !== 3 || entry.shape[0] !== pictures.length) return null;
    const tokens = entry.shape[1];
    const prefix = data.patches && tokens >= data.patches ? tokens - data.patches : 0;
    const side = Math.sqrt(tokens - prefix);
    return Number.isInteger(side) && side > 1 ? { prefix, side, tokens } : null;
  };
  const drawPicture = () => {
    if (!pictures.length) return;
    let index = chosen;
    if (!grid(entries[index])) index = entries.findLastIndex((entry, at) => at <= chosen && grid(entry) && isLayer(entry));
    if (index < 0) index = entries.findIndex((entry) => grid(entry));
    const layout = index < 0 ? null : grid(entries[index]);
    $("picture-site").textContent = layout
      ? `The error of each patch at ${entries[index].name}${index === chosen ? "" : " (the chosen site has no patches)"}.`
      : "No site has a row for each patch.";
    const opacity = $("opacity").value / 100;
    $("tiles").replaceChildren(...pictures.map((image, tile) => {
      const figure = element("figure");
      const canvas = element("canvas");
      canvas.width = data.tiles.width * 2;
      canvas.height = data.tiles.height * 2;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      if (image.complete) context.drawImage(image, 0, 0, canvas.width, canvas.height);
      let worst = 0;
      if (layout) {
        const { prefix, side, tokens } = layout;
        for (let patch = 0; patch < side * side; patch++) {
          const level = levelOf(index, tile * tokens + prefix + patch);
          worst = Math.max(worst, level);
          if (!level) continue;
          context.fillStyle = `rgba(${colour(level)}, ${opacity})`;
          const [left, top] = [patch % side, Math.floor(patch / side)];
          context.fillRect(left * canvas.width / side, top * canvas.height / side, canvas.width / side, canvas.height / side);
        }
      }
      figure.append(canvas, element("figcaption", `tile ${tile}: at most ${number(error(worst))}`));
      return figure;
    }));
  };
  $("opacity").addEventListener("input", drawPicture);

  // ---- All entries
  const lines = [...document.querySelectorAll("tr[data-index]")];
  lines.forEach((line) => line.addEventListener("click", () => choose(Number(line.dataset.index))));
  const shownLines = () => lines.filter((line) => !line.hidden);
  // One stop for Tab: the chosen line, or the first where the filter hides that one.
  const placeStop = () => {
    const stop = lines[chosen].hidden ? shownLines()[0] : lines[chosen];
    lines.forEach((line) => { line.tabIndex = line === stop ? 0 : -1; });
  };
  document.querySelector("#entries tbody").addEventListener("keydown", (event) => {
    const shown = shownLines();
    const at = shown.indexOf(event.target.closest("tr"));
    const to = {
      ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1,
      PageDown: at + 10, PageUp: at - 10, Enter: at, " ": at,
    }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const line = shown[Math.min(shown.length - 1, Math.max(0, to))];
    choose(Number(line.dataset.index));
    line.focus();
  });
  $("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    lines.forEach((line) => { line.hidden = !line.textContent.toLowerCase().includes(wanted); });
    placeStop();
  });

  const choose = (index) => {
    chosen = Math.min(entries.length - 1, Math.max(0, index));
    lines.forEach((line) => line.classList.toggle("chosen", Number(line.dataset.index) === chosen));
    placeStop();
    const group = groupOf(chosen);
    if (groups.get(group)?.length > 1 && $("group").value !== group) {
      $("group").value = group;
      drawHeat();
    }
    moveCursor();
    showSite();
    showCell();
    drawPicture();
  };
  const draw = () => { drawDepth(); drawHeat(); drawScale(); drawPicture(); };
  draw();
  choose(chosen);
  window.addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
