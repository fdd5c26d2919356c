/* Layers by columns: drawn, with one cell in the document, which the keyboard moves */
const VIK = getComputedStyle(document.querySelector("#scale i")).backgroundImage.match(/\d+, \d+, \d+/g).map(c => c.split(",").map(Number));
const SHADES = range(257).map(k => {
  const low = Math.min(Math.floor(k / 32), 7), rest = k / 32 - low;
  return `rgb(${VIK[low].map((value, c) => Math.round(value + rest * (VIK[low + 1][c] - value)))})`;
});
const shade = part => SHADES[Math.round(128 + 128 * clamp(part, -1, 1))];
const widest = Math.max(...Object.values(D.sources).map(s => s.offsets)), LEFT = 58, GAP = 16, TOP = 18;
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name);
let cursor = {layer: 0, axis: "h", position: 0};

function plan() { // width, height of a row, width of a cell, px
  const wide = $("matrix").clientWidth, n = S.axis.length;
  return {wide, high: clamp(Math.floor(520 / (LAST + 1)), 9, 22), cell: (wide - LEFT - GAP * (n - 1)) / (n * widest)};
}
const cellX = (p, axis, position) => LEFT + S.axis.indexOf(axis) * (p.cell * widest + GAP) + position * p.cell;
function drawMatrix() {
  const p = plan(), canvas = $("cells"), context = canvas.getContext("2d"), ratio = devicePixelRatio || 1, high = TOP + p.high * (LAST + 1);
  const fore = css("--fore"), soft = css("--soft"), scale = D.scale[S.unit], memo = {};
  [canvas.width, canvas.height] = [Math.round(p.wide * ratio), Math.round(high * ratio)]; // clears it, too
  canvas.style.height = `${high}px`;
  context.scale(ratio, ratio);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (const axis of S.axis) {
    context.fillStyle = css(`--${axis}`);
    context.fillText(`${AXES[axis]}${isDiff() ? ", B − A" : ""}`, cellX(p, axis, 0), 8);
  }
  context.strokeStyle = fore;
  context.lineWidth = 1.5;
  D.sites.forEach((s, l) => {
    const y = TOP + l * p.high, again = s.name !== s.source, o = memo[s.source] ??= shown(l), glow = lit(l, o), chosen = l === S.layer;
    const thick = again ? Math.max(p.high * 0.5, 4) : p.high - 1, upper = y + (p.high - thick) / 2;
    context.fillStyle = chosen ? fore : soft;
    context.font = `${chosen ? "bold " : ""}${Math.min(11, p.high)}px system-ui, sans-serif`;
    context.fillText(`${chosen ? "▸" : " "}${s.name}${again ? " ″" : ""}`, 0, y + p.high / 2);
    for (const axis of S.axis) {
      const columns = order(l, axis), values = half(o, axis), unit = factor(l, axis) / scale;
      columns.forEach((c, position) => {
        context.fillStyle = shade(values[c] * unit);
        context.fillRect(cellX(p, axis, position), upper, Math.max(p.cell - (p.cell > 4 ? 0.5 : 0), 0.5), thick);
      });
      if (glow[axis].size) columns.forEach((c, position) => glow[axis].has(c)
        && context.strokeRect(cellX(p, axis, position) + 0.5, upper, Math.max(p.cell - 1, 1), thick));
    }
  });
  $("low").textContent = `−${scale.toPrecision(3)}`;
  $("high").textContent = `+${scale.toPrecision(3)} ${S.unit}`;
  placeCell(p);
}
function placeCell(p = plan()) {
  if (!S.axis.includes(cursor.axis)) cursor.axis = S.axis;
  const {layer: l, axis} = cursor, columns = order(l, axis), cell = $("cell");
  cursor.position = clamp(cursor.position, 0, columns.length - 1);
  cursor.column = columns[cursor.position];
  const said = {ariaLabel: columnText(l, cursor.column, undefined, axis), ariaSelected: S.column === cursor.column && S.layer === l,
    ariaColIndex: S.axis.indexOf(axis) * widest + cursor.position + 1};
  Object.assign($("grid"), {ariaRowCount: (LAST + 1), ariaColCount: S.axis.length * widest});
  $("row").ariaRowIndex = l + 1;
  Object.assign(cell, said);
  Object.assign(cell.style, {left: `${cellX(p, axis, cursor.position)}px`, top: `${TOP + l * p.high}px`,
    width: `${Math.max(p.cell, 3)}px`, height: `${p.high}px`});
}
function cellAt(event) {
  const bounds = $("cells").getBoundingClientRect(), p = plan(), x = event.clientX - bounds.left, y = event.clientY - bounds.top;
  const l = Math.floor((y - TOP) / p.high), inRows = l >= 0 && l <= LAST;
  const axis = axes().find(a => x >= cellX(p, a, 0) && x < cellX(p, a, widest)), isHead = Boolean(axis) && y < TOP;
  const layer = isHead ? S.layer : clamp(l, 0, LAST), position = axis ? Math.floor((x - cellX(p, axis, 0)) / p.cell) : -1;
  return {layer, axis, position, column: axis && order(layer, axis)[position], inRows, isHead, isName: inRows && x < LEFT};
}
function gridKey(event) {
  const [down, right] = ARROWS[event.key] ?? [], n = source(cursor.layer).offsets, both = axes();
  if (right !== undefined) {
    const line = clamp(both.indexOf(cursor.axis) * n + cursor.position + right * (event.shiftKey ? 8 : 1), 0, both.length * n - 1);
    cursor = {layer: clamp(cursor.layer + down, 0, LAST), axis: both[Math.floor(line / n)], position: line % n};
  } else if (event.key === "Home") cursor.position = 0;
  else if (event.key === "End") cursor.position = widest;
  else if (event.key === "Enter" || event.key === " ") set({layer: cursor.layer, column: cursor.column});
  else return false;
  placeCell();
  hot = {...cursor};
  draw();
  return true;
}
