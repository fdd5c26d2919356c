/* One state, shown by all panes */
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let asked = false, home = null, waiting = 0, blinker = 0, painted = "";
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; drawNow(); });
}
function drawNow() {
  if (!maps[`m${D.models.length - 1}i${S.image}`]?.[site().source]) return; // not unpacked yet
  for (const part of [drawImage, drawPins, drawMatrix, drawBars, syncControls]) part();
  if ($("table").open) drawTable();
  $("read").textContent = viewText(seenModels());
  $("focus").textContent = aboutText(seenModels());
  speak(aboutText(compared()) || viewText(compared())); // of both models, if these blink
  remember();
  document.body.dataset.ready = "1";
}
function speak(text) { // once it stays
  clearTimeout(waiting);
  waiting = setTimeout(() => { $("live").textContent = text; }, 250);
}
function syncControls() {
  for (const key in S) if ($(key)?.value !== undefined) $(key).value = S[key];
  $("split-label").hidden = S.compare !== "split";
  [...$("thumbs").children].forEach((button, k) => { button.ariaPressed = k === S.image; });
  $("image-head").textContent = `Image: ${image().title}`;
  if (PAIR) {
    $("other").value = 1 - S.model;
    document.title = $("models").textContent = pair().map((model, k) => `${"AB"[k]}: ${D.models[model].name}`).join(", ");
  }
  if (painted === S.palette) return;
  painted = S.palette;
  for (const each of document.querySelectorAll("[data-kind]")) each.setAttribute("fill", ink()[each.dataset.kind]);
  $("scale").children[1].style.background = `linear-gradient(to right,${ink().stops})`;
}
function drawTable() {
  const rows = range(source().offsets).map(c => [c, channelText(channels(S.layer, c)), ...axes().map(axis => fixed(half(shown(), axis)[c] * factor(S.layer, axis)))]);
  const head = ["column", "channels", ...axes().map(axis => `${AXES[axis]} (${S.unit})`)];
  $("table-body").innerHTML = `<table>${[head, ...rows].map((row, k) => `<tr>${row.map((cell, c) => k && c ? `<td>${cell}` : `<th>${cell}`).join("")}`).join("")}</table>`;
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
  if (S.compare !== "blink") flip = 0;
  else if (!calm.matches) blinker = setInterval(turn, 700);
}
const turn = () => { flip = 1 - flip; draw(); };
