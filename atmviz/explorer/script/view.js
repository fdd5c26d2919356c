/* One state, shown by all panes */
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let asked = false, home = null, waiting = 0, spoken = 0, blinker = 0;
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; drawNow(); });
}
function drawNow() {
  if (!maps[`m0i${S.image}`] || maps[`m0i${S.image}`].then) return; // not unpacked yet
  for (const part of [drawImage, drawPins, drawMatrix, drawBars, syncControls]) part();
  if ($("table").open) drawTable();
  const {text} = readout(), about = hot ? columnText(hot.layer, hot.column, undefined, hot.axis)
    : S.column !== null ? columnText(S.layer, S.column) : S.brush ? brushText() : S.block ? blockText() : "";
  $("read").textContent = text;
  $("focus").textContent = about;
  speak(about || text);
  remember();
  document.body.dataset.ready = "1";
}
function brushText() {
  const {axis, low, high} = S.brush, found = half(offsets(S.model), axis).filter(value => rint(value) >= low && rint(value) <= high);
  return `${found.length} of ${source().offsets} columns: ${low} to ${high} tokens ${AXES[axis]}`;
}
function speak(text) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    spoken = Date.now();
    $("live").textContent = text;
  }, Math.max(0, 250 - (Date.now() - spoken)));
}
const short = (text, limit = 40) => text.length > limit ? `${text.slice(0, limit - 3)}…` : text;
function syncControls() {
  for (const key of ["image", "model", "compare", "layer", "axis", "unit", "order", "split"])
    $(key).value = S[key];
  $("split-label").hidden = S.compare !== "split";
  [...$("thumbs").children].forEach((button, k) => { button.ariaPressed = k === S.image; });
  $("image-head").textContent = `Image: ${short(image().name, 60)}`;
}
function drawTable() {
  const o = shown(), table = make("table", {}), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const textContent of ["column", "channels", ...axes().map(axis => `${AXES[axis]} (${S.unit})`)]) head.append(make("th", {textContent, scope: "col"}));
  for (const c of range(o.length / 2)) {
    const row = body.insertRow(), [first, last] = channels(S.layer, c);
    row.append(make("th", {textContent: c, scope: "row"}));
    row.insertCell().textContent = first === last ? first : `${first} to ${last}`;
    for (const axis of S.axis) row.insertCell().textContent = (half(o, axis)[c] * factor(S.layer, axis)).toFixed(2);
  }
  $("table-body").replaceChildren(table);
}
async function show(next) {
  await load(next.image);
  if (next.image !== S.image) view = null;
  S = next;
  home = here();
  blink();
  drawNow();
}
function set(changes) {
  Object.assign(S, changes);
  draw();
}
function blink() {
  clearInterval(blinker);
  if (S.compare === "blink" && !calm.matches) blinker = setInterval(() => set({model: 1 - S.model}), 700);
}
