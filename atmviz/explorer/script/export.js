/* Files of what is shown, made from the state */
function picture() {
  const [height, width] = image().image, scale = width / 900, foot = 44 * scale, model = D.models[S.model];
  const svg = frame({...wholeBox(), height: height + foot});
  svg.setAttribute("width", 900);
  svg.setAttribute("height", at((height + foot) / scale));
  svg.append(el("rect", {...wholeBox(), height: height + foot, fill: "#fff"}), backdrop(S.layer, scale), overlay(scale));
  [readout().text, `${model.title}, weights ${model.sha256.slice(0, 12)}, ${short(image().name, 60)}; ${D.of} images of ${D.dataset}; ${D.software}`].forEach((textContent, k) => {
    const text = el("text", {x: 4 * scale, y: height + (17 + 17 * k) * scale, "font-size": 12 * scale, "font-family": "sans-serif"});
    svg.append(Object.assign(text, {textContent}));
  });
  return new XMLSerializer().serializeToString(svg);
}
async function png() {
  const drawn = make("img", {src: `data:image/svg+xml,${encodeURIComponent(picture())}`}), canvas = make("canvas", {});
  await drawn.decode();
  [canvas.width, canvas.height] = [2 * drawn.width, 2 * drawn.height];
  canvas.getContext("2d").drawImage(drawn, 0, 0, canvas.width, canvas.height);
  return new Promise(done => canvas.toBlob(done));
}
function table() { // of the block, or of the layer
  const rows = ["image,model,layer,source,row,column,axis,offset_index,first_channel,last_channel,tokens,px"];
  const quoted = text => `"${text.replace(/"/g, '""').replace(/^[=+@-]/, "'$&")}"`; // no formula of a spreadsheet
  const [from, to] = S.block?.layers ?? [S.layer, S.layer], model = isDiff() ? "B-A" : D.models[S.model].title;
  for (let l = from; l <= to; l++) for (const axis of S.block?.axis ?? S.axis) for (const c of S.block ? ofBlock(l) : order(l, axis)) {
    const value = half(shown(l), axis)[c], {name, source: of, stride} = site(l);
    rows.push([quoted(image().name), quoted(model), name, of, ...query(l), AXES[axis], c, ...channels(l, c), value, value * stride[along(axis)]].join());
  }
  return `${rows.join("\n")}\n`;
}
function command() {
  const {command: words} = image(), {options} = D.models[S.model];
  return words && options && `${words} ${options} --layer ${site().name} --query ${query().join(":")}${S.axis === "hv" ? "" : ` --axis ${AXES[S.axis]}`}`;
}
function keep(content, download) {
  const href = URL.createObjectURL(new Blob([content]));
  make("a", {href, download}).click();
}
async function copy(text) {
  let said = text ? "copied" : "there is no command: no file holds this image or these weights";
  try { await navigator.clipboard.writeText(text); } catch { said = text && "copy this"; } // a notebook may not let its frames copy
  $("focus").textContent = [said, text].filter(Boolean).join(": ");
  speak($("focus").textContent);
}
const EXPORTS = {
  svg: () => keep(picture(), "explorer.svg"), png: async () => keep(await png(), "explorer.png"),
  csv: () => keep(table(), "explorer.csv"),
  json: () => keep(JSON.stringify({link: link(), ...readout()}, null, 2), "explorer.json"),
  link: () => copy(location.href.replace(/#.*/, "") + link()), command: () => copy(command()),
};
on($("export"), "click", event => EXPORTS[event.target.dataset.export]?.());
