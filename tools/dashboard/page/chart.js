'use strict';
// Drawing: a person's posterior as stacked areas, and small lines of rates. What falls into the same pixels is drawn as its mean.

const AXIS_PX = 20, MEAN_PX = 2;
const COLOURS = { neutral: '#98a2b0', calm: '#7fb8a4', happiness: '#f2a93b', surprise: '#d965a8', sadness: '#4a7fd4',
  anger: '#d8453e', disgust: '#6b9a3c', fear: '#7d5bbe', contempt: '#8a6a4f' };
const OTHERS = ['#3aa5a0', '#b98b2f', '#5f78a8', '#c2705c', '#8fae5a', '#a56fb5'];

function colourOf(label, labels) { return COLOURS[label.toLowerCase()] ?? OTHERS[labels.indexOf(label) % OTHERS.length]; }

function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

function fitted(canvas) {  // its context in CSS pixels, cleared
  const { width, height } = canvas.getBoundingClientRect(), scale = window.devicePixelRatio || 1;
  const w = Math.round(width * scale), h = Math.round(height * scale);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const pen = canvas.getContext('2d');
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

function clock(t, digits = 0) {  // media seconds as h:mm:ss
  const sign = t < 0 ? '−' : '', whole = Math.abs(t), s = (whole % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, '0');
  const m = Math.floor(whole / 60) % 60, h = Math.floor(whole / 3600);
  return sign + (h ? `${h}:${String(m).padStart(2, '0')}` : m) + ':' + s;
}

function isGap(before, row) {  // further apart than hops, or the thinning of older rows, put them
  return row[ROW_T] - before[ROW_T] > COARSE_S + 2 * Math.max(before[ROW_HOP], row[ROW_HOP]);
}

function visible(rows, from, to, width, parts) {  // runs of rows that nothing parts, those of the same pixels as their mean
  const runs = [], step = ((to - from) / width) * MEAN_PX, bin = (row) => Math.floor(row[ROW_T] / step);
  let group = [], run = null;
  const finish = () => { if (group.length) run.push(mean(group)); group = []; };
  for (let i = Math.max(0, indexAt(rows, from)); i < rows.length && (i === 0 || rows[i - 1][ROW_T] <= to); i++) {
    const row = rows[i], last = group.at(-1), gap = !last || parts(last, row);
    if (gap || bin(row) !== bin(last)) finish();
    if (gap) runs.push(run = []);
    group.push(row);
  }
  finish();
  return runs;
}

function mean(group) {  // of each number; of what is none, what most rows say
  if (group.length === 1) return group[0];
  return group[0].map((_, k) => {
    const known = group.map((row) => row[k]).filter((value) => value !== null);
    if (known.length * 2 < group.length) return null;
    return typeof known[0] === 'number' ? known.reduce((sum, value) => sum + value, 0) / known.length : known.at(-1);
  });
}

function drawLane(canvas, lane, view, events) {
  const { pen, width, height } = fitted(canvas), base = height - AXIS_PX;
  if (width < 10 || base < 10) return;
  const x = (t) => ((t - view.from) / (view.to - view.from)) * width;
  pen.fillStyle = css('--track');
  pen.fillRect(0, 0, width, base);
  pen.save();
  pen.beginPath(); pen.rect(0, 0, width, base); pen.clip();
  for (const run of visible(lane.rows, view.from, view.to, width, isGap)) {
    const last = run.at(-1);
    run.push([last[ROW_T] + last[ROW_HOP], ...last.slice(1)]);  // it holds for a hop, and so one alone is seen
    drawRun(pen, run, lane.labels, x, base);
    shadeAbstained(pen, run, x, base);
  }
  drawEvents(pen, events, x, base);
  pen.restore();
  drawAxis(pen, view, x, width, base);
  if (view.cursor !== null) {
    pen.fillStyle = css('--ink');
    pen.fillRect(x(view.cursor) - 1, 0, 2, base);
  }
}

function drawRun(pen, run, labels, x, base) {
  let below = run.map(() => 0);
  labels.forEach((label, k) => {
    const above = run.map((row, i) => below[i] + row[ROW_P + k]);
    pen.beginPath();
    run.forEach((row, i) => pen.lineTo(x(row[ROW_T]), base * (1 - above[i])));
    for (let i = run.length - 1; i >= 0; i--) pen.lineTo(x(run[i][ROW_T]), base * (1 - below[i]));
    pen.closePath();
    pen.fillStyle = colourOf(label, labels);
    pen.fill();
    below = above;
  });
}

function shadeAbstained(pen, run, x, base) {  // what was too unsure to be an estimate fades into the ground
  pen.fillStyle = css('--card');
  pen.globalAlpha = 0.72;
  for (let i = 0; i < run.length; i++) {
    if (run[i][ROW_REASON] === null) continue;
    const start = i;
    while (i + 1 < run.length && run[i + 1][ROW_REASON] !== null) i++;
    const end = i + 1 < run.length ? run[i + 1] : run[i];
    pen.fillRect(x(run[start][ROW_T]), 0, Math.max(1, x(end[ROW_T]) - x(run[start][ROW_T])), base);
  }
  pen.globalAlpha = 1;
}

function drawEvents(pen, events, x, base) {  // a notch at the top of a thin line
  pen.fillStyle = css('--ink');
  for (const { t } of events) {
    const at = x(t);
    pen.globalAlpha = 0.35;
    pen.fillRect(at - 0.5, 0, 1, base);
    pen.globalAlpha = 1;
    pen.beginPath(); pen.moveTo(at - 5, 0); pen.lineTo(at + 5, 0); pen.lineTo(at, 7); pen.fill();
  }
}

function drawAxis(pen, view, x, width, base) {
  const span = view.to - view.from, most = Math.max(2, width / 90);
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400].find((s) => span / s <= most) ?? 28800;
  pen.font = '12px system-ui, "DejaVu Sans", sans-serif';
  pen.fillStyle = css('--soft');
  pen.textBaseline = 'bottom';
  for (let n = 0; n * step <= span; n++) {
    const t = view.relative ? view.to - n * step : Math.ceil(view.from / step) * step + n * step;
    if (t > view.to) break;
    const text = view.relative ? (n ? clock(-n * step) : 'now') : clock(t), at = x(t);
    const half = pen.measureText(text).width / 2;
    const left = Math.min(width - 2 * half, Math.max(0, at - half));
    if (Math.abs(left + half - at) > half + 1) continue;
    pen.fillRect(at - 0.5, base, 1, 4);
    pen.fillText(text, left, base + AXIS_PX);
  }
}

function drawSpark(canvas, rows, column, view) {
  const { pen, width, height } = fitted(canvas);
  const runs = visible(rows, view.from, view.to, width, () => false).map((run) => run.filter((row) => row[column] !== null));
  const values = runs.flat().map((row) => row[column]);
  if (!values.length) return;
  const low = Math.min(0, ...values), high = Math.max(low + 1e-9, ...values);
  pen.strokeStyle = css('--calm');
  pen.lineWidth = 1.5;
  for (const run of runs) {
    pen.beginPath();
    for (const row of run) {
      pen.lineTo(((row[ROW_T] - view.from) / (view.to - view.from)) * width,
        height - 2 - ((row[column] - low) / (high - low)) * (height - 4));
    }
    pen.stroke();
  }
}
