'use strict';
// The page: what the streams say, put on the screen once a message came, something was touched or a second passed.

const REASONS = { no_face: 'no face in view', silence: 'nobody speaks', stale: 'too old', uncertain: 'not sure enough' };
const GONE_S = 5, PLAY_MS = 50;
const streams = new Streams(), views = new Map();  // of what the feed says; of what is on the screen, by stream
let connectedMs = null, lostMs = performance.now(), span = 60, shownFor = '', due = false;

const make = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const percent = (share) => `${Math.round(share * 100)} %`;

function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; show(); });
}

function listen() {
  const feed = new EventSource('feed' + location.search);
  const on = (name, take) => feed.addEventListener(name, (event) => {
    connectedMs = performance.now();
    lostMs = null;
    take(JSON.parse(event.data), connectedMs);
    redraw();
  });
  on('state', (state, now) => {
    streams.takeState(state, now);
    if (state.recorded && shownFor !== state.source) setSpan(Infinity);
    document.querySelector('#spans [data-span=Infinity]').hidden = !state.recorded;
    shownFor = state.source;
  });
  on('messages', (messages, now) => messages.forEach((message) => streams.take(message, now)));
  on('beat', (beat, now) => streams.takeBeat(beat, now));
  feed.onerror = () => {
    lostMs ??= connectedMs ?? performance.now();
    if (feed.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
    redraw();
  };
}

function show() {
  const now = performance.now(), cut = connectedMs !== null && (lostMs !== null || now - connectedMs > STALE_S * 1000);
  const line = document.getElementById('connection');
  line.hidden = !cut;
  line.className = 'pill stale';
  if (cut) put(line, `dashboard not reachable for ${Math.round((now - (lostMs ?? connectedMs)) / 1000)} s`);
  document.body.classList.toggle('unheard', cut);
  put(document.getElementById('source'), streams.source);
  const empty = document.getElementById('empty');
  empty.hidden = streams.all.size > 0;
  put(empty, connectedMs === null ? 'Connecting …' : `Waiting for ${streams.source} …`);
  const notices = new Set([...streams.all.values()].map((stream) => stream.session?.notice).filter(Boolean));
  put(document.querySelector('#notice span'), [...notices].join(' ')
    || 'They are guesses of a statistical model about an expression, not what a person feels.');
  for (const [name, view] of views) if (!streams.all.has(name)) { view.root.remove(); views.delete(name); }
  for (const [name, stream] of streams.all) {
    if (!views.has(name)) views.set(name, new StreamView(document.getElementById('streams')));
    views.get(name).show(stream, now);
  }
}

class StreamView {
  constructor(parent) {
    this.root = parent.appendChild(make('stream-template'));
    this.at = (selector) => this.root.querySelector(selector);
    Object.assign(this, { lanes: new Map(), tiles: new Map(), cursor: null, player: null, told: null, session: null });
    this.at('.scrub input').addEventListener('input', (event) => { this.cursor = Number(event.target.value); redraw(); });
    this.at('.play').addEventListener('click', () => this.play());
  }

  show(stream, nowMs) {
    this.stream = stream;
    if (this.session !== stream.session?.session) this.cursor = null;
    this.session = stream.session?.session;
    this.root.dataset.stream = stream.name;
    put(this.at('h2'), stream.name);
    this.showState(nowMs);
    const about = stream.session;
    put(this.at('.about'), about ? `${about.recogniser} on ${stream.status?.engine || about.engine} · ${about.source}` : '');
    const [first, last] = stream.bounds();
    if (streams.recorded) this.showScrub(first, last);
    const when = this.cursor ?? last, view = this.window(first, last, when);
    this.showLanes(view, when);
    this.showTiles(view, when);
    this.showEvents(when);
  }

  showState(nowMs) {
    const { stream } = this, silentS = stream.heardMs === null ? 0 : (nowMs - stream.heardMs) / 1000;
    const stale = !streams.recorded && !stream.ended && silentS >= STALE_S;
    const kind = streams.recorded ? 'recorded' : stream.ended ? 'ended' : stale ? 'stale' : 'live';
    const words = { recorded: 'recording', ended: 'ended', live: '● live', stale: `stale: no message for ${Math.floor(silentS)} s` };
    put(this.at('.state'), words[kind]);
    this.at('.state').className = `pill state ${kind}`;
    this.root.classList.toggle('stale', stale);
  }

  showScrub(first, last) {
    const bar = this.at('.scrub input');
    this.at('.scrub').hidden = false;
    bar.min = first;
    bar.max = last;
    this.cursor ??= first;
    bar.value = this.cursor;
    put(this.at('.scrub output'), `${clock(this.cursor, 1)} / ${clock(last, 1)}`);
  }

  play() {
    const stop = () => { clearInterval(this.player); this.player = null; put(this.at('.play'), '▶'); };
    if (this.player) { stop(); return; }
    const last = this.stream.bounds()[1], from = this.cursor >= last ? this.stream.bounds()[0] : this.cursor;
    const began = performance.now();
    put(this.at('.play'), '❚❚');
    this.player = setInterval(() => {
      this.cursor = Math.min(last, from + (performance.now() - began) / 1000);
      if (this.cursor >= last) stop();
      redraw();
    }, PLAY_MS);
  }

  window(first, last, when) {
    const long = Number.isFinite(span) ? span : Math.max(1, last - first);
    const to = streams.recorded ? Math.min(Math.max(when + long / 2, first + long), Math.max(last, first + long)) : last;
    return { from: to - long, to, cursor: this.cursor, relative: !streams.recorded };
  }

  showLanes(view, when) {
    const there = [...this.stream.lanes].filter(([, lane]) => lane.rows.at(-1)[ROW_T] >= view.from && lane.rows[0][ROW_T] <= view.to);
    there.sort(([a], [b]) => a - b);
    for (const [person, lane] of this.lanes) {
      if (!there.some(([other]) => other === person)) { lane.root.remove(); this.lanes.delete(person); }
    }
    for (const [person, lane] of there) {
      if (!this.lanes.has(person)) {
        const after = [...this.lanes.keys()].filter((other) => other > person).sort((a, b) => a - b)[0];
        this.lanes.set(person, new LaneView(this, person, this.lanes.get(after)?.root ?? null));
      }
      this.lanes.get(person).show(lane, view, when);
    }
    this.at('.nobody').hidden = there.length > 0;
  }

  showTiles(view, when) {
    const row = this.stream.statuses[indexAt(this.stream.statuses, when)], status = this.cursor === null ? this.stream.status : null;
    const number = (value, digits) => (value === null || value === undefined ? '–' : value.toFixed(digits));
    const drops = status ? Object.entries(status.drops).filter(([, n]) => n).map(([name, n]) => `${name} ${n}`).join(', ') : '';
    const gaps = status && status.audio_gap_s ? `${status.overruns} overruns, ${status.audio_gap_s.toFixed(1)} s unheard` : '';
    this.tile('Video', 1, number(row?.[1], 1), 'frames/s', status ? `${number(status.analysed_rate_hz, 1)} analysed` : '', view);
    this.tile('Estimates', 2, number(row?.[2], 1), 'hops/s', status ? `${status.persons} tracked` : '', view);
    this.tile('Latency', 3, number(row?.[3], 0), 'ms', row && row[4] !== null ? `p99 ${number(row[4], 0)} ms` : '', view);
    this.tile('Engine', 5, number(row?.[5], 0), 'ms', status?.engine_ms ? `p99 ${number(status.engine_ms[1], 0)} ms` : '', view);
    this.tile('Dropped', 6, number(row?.[6], 0), '', drops || gaps, view, row?.[6] > 0);
    this.tile('Clock drift', 7, number(row?.[7], 1), 'ppm', '', view);
    if (!streams.recorded) {
      const unread = streams.unreadable ? `${streams.unreadable} unreadable` : '';
      this.tile('Lost on the way here', null, String(streams.lost), '', unread, view, streams.lost > 0);
    }
  }

  tile(name, column, value, unit, more, view, alert = false) {
    if (!this.tiles.has(name)) this.tiles.set(name, this.at('.tiles').appendChild(make('tile-template')));
    const root = this.tiles.get(name);
    put(root.querySelector('.name'), name);
    put(root.querySelector('b'), value);
    put(root.querySelector('.unit'), unit);
    put(root.querySelector('.more'), more);
    root.classList.toggle('alert', alert);
    if (column !== null) drawSpark(root.querySelector('canvas'), this.stream.statuses, column, view);
  }

  showEvents(when) {
    const { stream } = this, list = this.at('.events ol');
    if (this.told !== stream.events) {
      list.replaceChildren(...[...stream.events].reverse().map((event) => {
        const line = document.createElement('li');
        const about = event.person === null || /person/.test(event.text) ? '' : ` (person ${event.person})`;
        for (const text of [clock(event.t, 1), event.kind.replaceAll('_', ' '), event.text + about]) {
          line.appendChild(document.createElement('span')).textContent = text;
        }
        line.t = event.t;
        return line;
      }));
      this.told = stream.events;
    }
    this.at('.events').hidden = stream.events.length === 0;
    for (const line of list.children) line.classList.toggle('later', this.cursor !== null && line.t > when);
  }
}

class LaneView {
  constructor(parent, person, before) {
    this.root = parent.at('.lanes').insertBefore(make('lane-template'), before);
    this.root.dataset.person = person;
    this.at = (selector) => this.root.querySelector(selector);
    Object.assign(this, { person, labels: null, rows: [], view: null });
    const canvas = this.at('canvas');
    const point = (event) => {
      const { left, width } = canvas.getBoundingClientRect();
      const [first, last] = parent.stream.bounds(), t = this.view.from + ((event.clientX - left) / width) * (this.view.to - this.view.from);
      parent.cursor = Math.min(last, Math.max(first, t));
      redraw();
    };
    canvas.addEventListener('pointerdown', point);
    canvas.addEventListener('pointermove', (event) => { if (!streams.recorded || event.buttons) point(event); });
    const leave = () => { if (!streams.recorded) { parent.cursor = null; redraw(); } };
    canvas.addEventListener('pointerleave', leave);
    canvas.addEventListener('pointercancel', leave);
  }

  show(lane, view, when) {
    this.view = view;
    const row = lane.rows[indexAt(lane.rows, when)], sinceS = row ? when - row[ROW_T] : Infinity, gone = sinceS > GONE_S;
    const label = row && !gone ? row[ROW_LABEL] : null, who = this.person ? `Person ${this.person}` : 'A voice';
    put(this.at('.who'), view.cursor === null ? who : `${who}, at ${clock(view.cursor, 1)}`);
    put(this.at('.label'), label ?? (gone ? 'Gone' : 'No estimate'));
    this.root.classList.toggle('none', label === null);
    if (label === null) this.root.style.removeProperty('--tint');
    else this.root.style.setProperty('--tint', colourOf(label, lane.labels));
    this.at('.meter').hidden = label === null;
    this.at('.meter i').style.width = `${(row?.[ROW_SURE] ?? 0) * 100}%`;
    put(this.at('.sure b'), label === null ? '' : percent(row[ROW_SURE]));
    put(this.at('.why'), this.why(row, label, sinceS, gone));
    put(this.at('.aside'), row && !gone ? this.aside(row) : '');
    this.showBars(lane.labels, gone ? null : row);
    this.at('canvas').setAttribute('aria-label', `Posterior of ${who} over time`);
    drawLane(this.at('canvas'), lane, view);
  }

  why(row, label, sinceS, gone) {
    if (gone) return Number.isFinite(sinceS) ? `last seen ${Math.round(sinceS)} s ago` : 'not seen yet';
    return label === null ? REASONS[row[ROW_REASON]] ?? row[ROW_REASON] ?? '' : 'confidence';
  }

  aside(row) {
    const [face, voice] = row[ROW_WEIGHTS], parts = [];
    if (face) parts.push(`face ${percent(face)}`);
    if (voice) parts.push(`voice ${percent(voice)}`);
    if (row[ROW_AGE] !== null) parts.push(`${Math.round(row[ROW_AGE])} ms old`);
    return parts.join(' · ');
  }

  showBars(labels, row) {
    if (this.labels !== labels) {
      this.labels = labels;
      this.rows = labels.map((label) => {
        const line = document.createElement('div'), bar = document.createElement('span'), fill = document.createElement('i');
        line.className = 'row';
        bar.className = 'bar';
        fill.style.background = colourOf(label, labels);
        bar.append(fill);
        const name = document.createElement('span'), value = document.createElement('span');
        name.textContent = label;
        line.append(name, bar, value);
        return { line, fill, value };
      });
      this.at('.bars').replaceChildren(...this.rows.map(({ line }) => line));
    }
    this.rows.forEach(({ line, fill, value }, k) => {
      const share = row ? row[ROW_P + k] : 0;
      fill.style.width = `${share * 100}%`;
      put(value, row ? percent(share) : '');
      line.classList.toggle('top', Boolean(row) && row[ROW_LABEL] === labels[k]);
    });
  }
}

function setSpan(seconds) {
  span = seconds;
  for (const button of document.querySelectorAll('#spans button')) {
    button.setAttribute('aria-pressed', String(Number(button.dataset.span) === span));
  }
  redraw();
}

function setTheme(choice) {  // auto, light or dark; a browser that keeps nothing asks again next time
  const dark = choice === 'dark' || (choice === 'auto' && matchMedia('(prefers-color-scheme: dark)').matches);
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  document.documentElement.style.colorScheme = dark ? 'dark' : 'light';
  const button = document.getElementById('theme');
  button.dataset.choice = choice;
  put(button, { auto: '◐ auto', light: '☀ light', dark: '☾ dark' }[choice]);
  try { localStorage.setItem('emocast-theme', choice); } catch { /* private window */ }
  redraw();
}

function keptTheme() {
  try { return localStorage.getItem('emocast-theme') ?? 'auto'; } catch { return 'auto'; }
}

document.getElementById('theme').addEventListener('click', (event) => {
  setTheme({ auto: 'light', light: 'dark', dark: 'auto' }[event.target.dataset.choice]);
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => setTheme(keptTheme()));
for (const button of document.querySelectorAll('#spans button')) {
  button.addEventListener('click', () => setSpan(Number(button.dataset.span)));
}
addEventListener('resize', redraw);
setInterval(redraw, 1000);
setTheme(keptTheme());
setSpan(60);
listen();
