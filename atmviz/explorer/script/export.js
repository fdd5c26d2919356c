/* Files of what is shown, made from the state */
function picture() { // with legend and title block
  const all = pictures(), width = 900 / all.length, scale = image().image[1] / width, height = image().image[0] / scale;
  const used = (isDiff() ? pair() : compared()).map(model => D.models[model].said), key = $(site().kind === "point" ? "key-point" : "legend").cloneNode(true);
  const texts = [viewText(seenModels()), aboutText(seenModels()), `${used.join("; ")}; ${image().title}; ${D.said}`].flatMap(text => text.match(/.{1,125}(?:\s|$)|.{125}/g) ?? []);
  const whole = {x: 0, y: 0, width: 900, height: height + 40 + 17 * texts.length}, sheet = frame(whole, {width: 900, height: whole.height});
  key.setAttribute("y", at(height + 6));
  sheet.append(el("rect", {...whole, fill: "#fff"}), key, ...texts.map((text, k) => write(text, 4, height + 43 + 17 * k, {"font-size": 12})));
  px = scale;
  all.forEach((models, k) => {
    const one = frame(image().box, {x: k * width, y: 0, width, height});
    one.append(backdrop(), overlay(models, image().box));
    sheet.append(one);
  });
  return new XMLSerializer().serializeToString(sheet);
}
async function png() {
  const drawn = make("img", {src: `data:image/svg+xml,${encodeURIComponent(picture())}`});
  await drawn.decode();
  const canvas = new OffscreenCanvas(2 * drawn.width, 2 * drawn.height);
  canvas.getContext("2d").drawImage(drawn, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob();
}
function table() { // of the block, or of the layer
  const rows = ["image,model,layer,source,row,column,axis,offset_index,first_channel,last_channel,tokens,px"];
  const quoted = text => `"${text.replace(/"/g, '""').replace(/^[=+@-]/, "'$&")}"`; // no formula of a spreadsheet
  const [from, to] = S.block?.layers ?? [S.layer, S.layer];
  for (const model of compared()) for (let l = from; l <= to; l++) for (const axis of S.block?.axis ?? S.axis) for (const c of S.block ? ofBlock(l) : order(l, axis)) {
    const value = half(isDiff() ? shown(l) : offsets(model, l), axis)[c], {name, source: from, factors} = site(l);
    rows.push([quoted(image().name), quoted(isDiff() ? "B-A" : D.models[model].title), name, from, ...query(l), AXES[axis], c, ...channels(l, c), value, value * factors.px[nth(axis)]].join());
  }
  return `${rows.join("\n")}\n`;
}
function command() { // what is said of it, and the command of each model that is shown
  const why = image().why || compared().map(model => D.models[model].why).find(Boolean);
  if (why) return [`there is no command: ${why}`];
  const queries = new Set([here(), ...S.pins].map(point => ` --query ${query(S.layer, point).join(":")}`));
  const rest = [...queries].join("") + (S.axis === "hv" ? "" : ` --axis ${AXES[S.axis]}`) + ink().words;
  const lacks = S.region || S.block || S.brush || S.column !== null || isDiff() || S.weight !== "count";
  const notes = [lacks && D.lacks, D.placeholders].filter(Boolean).join("; ");
  return [`copied${notes && ` (${notes})`}`, compared().map(model => `${image().command} ${D.models[model].options} --layer ${site().name}${rest}`).join(" && ")];
}
const keep = (content, download) => make("a", {href: URL.createObjectURL(new Blob([content])), download}).click();
async function copy(said, text = "") {
  try { if (text) await navigator.clipboard.writeText(text); } catch { said = said.replace("copied", "copy this"); } // a notebook may not let its frames copy
  $("focus").textContent = text ? `${said}: ${text}` : said;
  speak($("focus").textContent);
}
const EXPORTS = {
  svg: () => keep(picture(), "explorer.svg"), png: async () => keep(await png(), "explorer.png"), csv: () => keep(table(), "explorer.csv"),
  json: () => keep(JSON.stringify({link: link(), ...readout(), page: D.about}, null, 2), "explorer.json"),
  link: () => copy("copied", location.href.replace(/#.*/, "") + link()), command: () => copy(...command()),
};
on(menu, "click", event => EXPORTS[event.target.dataset.export]?.());
