/* Layers by columns: drawn, with one cell in the document, which the keyboard moves */
const shade = part => ink().shades[round(64 + 64 * clamp(part, -1, 1))]; // part: from -1 to 1
const widest = max(...Object.values(D.sources).map(s => s.offsets)), LEFT = 58, GAP = 16, TOP = 18;
let p = {}, cursor = {layer: 0, axis: "h", position: 0};

function plan() { // width, height, height of a row, width of a cell, px
  const n = S.axis.length, wide = $("matrix").clientWidth, row = clamp(floor(520 / (LAST + 1)), 9, 22);
  p = {wide, row, high: TOP + row * (LAST + 1), cell: (wide - LEFT - GAP * (n - 1)) / (n * widest)};
}
const cellX = (axis, position) => LEFT + S.axis.indexOf(axis) * (p.cell * widest + GAP) + position * p.cell;
function drawMatrix() {
  plan();
  const context = cells.getContext("2d"), ratio = devicePixelRatio || 1, [fore, soft] = ["matrix", "scale"].map(id => getComputedStyle($(id)).color), memo = {}, scale = D.scale[S.unit];
  const write = (text, x, y, size, weight = "") => {
    context.font = `${weight} ${size}px system-ui, sans-serif`;
    context.fillText(text, x, y);
  };
  [cells.width, cells.height] = [round(p.wide * ratio), round(p.high * ratio)]; // clears it, too
  cells.style.height = `${p.high}px`;
  context.scale(ratio, ratio);
  context.textBaseline = "middle";
  context.strokeStyle = context.fillStyle = fore;
  context.lineWidth = 1.5;
  for (const axis of S.axis) write(`${AXES[axis]}${isDiff() ? ", B − A" : ""}`, cellX(axis, 0), 8, 11);
  D.sites.forEach((s, l) => {
    const y = TOP + l * p.row, again = s.name !== s.source, o = memo[s.source] ??= shown(l), glow = lit(l, o), chosen = l === S.layer;
    const thick = again ? max(p.row * 0.5, 4) : p.row - 1, upper = y + (p.row - thick) / 2;
    context.fillStyle = chosen ? fore : soft;
    write(`${chosen ? "▸" : " "}${s.name}${again ? " ″" : ""}`, 0, y + p.row / 2, min(11, p.row), chosen ? "bold" : "");
    for (const axis of S.axis) {
      const values = half(o, axis), unit = factor(l, axis) / scale;
      order(l, axis).forEach((c, position) => {
        const x = cellX(axis, position);
        context.fillStyle = shade(values[c] * unit);
        context.fillRect(x, upper, max(p.cell - (p.cell > 4 ? 0.5 : 0), 0.5), thick);
        if (glow(axis, c)) context.strokeRect(x + 0.5, upper, max(p.cell - 1, 1), thick);
      });
    }
  });
  [$("low").textContent, $("high").textContent] = ["−", "+"].map(sign => `${sign}${scale.toPrecision(3)} ${S.unit}`);
  placeCell();
}
function placeCell() {
  if (!S.axis.includes(cursor.axis)) cursor.axis = S.axis;
  const {layer: l, axis} = cursor, columns = order(l, axis), cell = $("cell");
  cursor.position = clamp(cursor.position, 0, columns.length - 1);
  cursor.column = columns[cursor.position];
  $("grid").ariaColCount = S.axis.length * widest;
  $("row").ariaRowIndex = l + 1;
  Object.assign(cell, {ariaLabel: columnText(l, cursor.column, axis), ariaSelected: S.column === cursor.column && S.layer === l,
    ariaColIndex: S.axis.indexOf(axis) * widest + cursor.position + 1});
  Object.assign(cell.style, {left: `${cellX(axis, cursor.position)}px`, top: `${TOP + l * p.row}px`, width: `${max(p.cell, 3)}px`, height: `${p.row}px`});
}
function cellAt({offsetX: x, offsetY: y}) {
  const l = floor((y - TOP) / p.row), inRows = l >= 0 && l <= LAST;
  const axis = axes().find(a => x >= cellX(a, 0) && x < cellX(a, widest)), isHead = Boolean(axis) && y < TOP;
  const layer = isHead ? S.layer : clamp(l, 0, LAST), position = axis ? floor((x - cellX(axis, 0)) / p.cell) : -1;
  return {layer, axis, position, column: axis && order(layer, axis)[position], inRows, isHead, isName: inRows && x < LEFT};
}
function gridKey({key, shiftKey}) { // what a key does among the cells; nothing for other keys
  const [down, right] = ARROWS[key] ?? [], {layer, axis, position, column} = cursor, n = source(layer).offsets, all = axes();
  const line = clamp(all.indexOf(axis) * n + position + right * (shiftKey ? 8 : 1), 0, all.length * n - 1);
  const next = ARROWS[key] ? {layer: clamp(layer + down, 0, LAST), axis: all[floor(line / n)], position: line % n}
    : key === "Home" ? {position: 0} : key === "End" ? {position: widest} : key === "Enter" || key === " " ? {} : null;
  return next && (() => {
    if (key === "Enter" || key === " ") set({layer, column});
    Object.assign(cursor, next);
    placeCell();
    hot = {...cursor};
    draw();
  });
}
