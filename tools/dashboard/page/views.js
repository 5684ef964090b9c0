'use strict';
// What is seen of one stream: its state, a lane a person, tiles of rates, its events; and the bar to scrub in a recording.

const REASONS = { no_face: 'no face in view', silence: 'nobody speaks', stale: 'too old', uncertain: 'not sure enough' };
const GONE_S = 5, PLAY_MS = 50;

const make = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const percent = (share) => `${Math.round(share * 100)} %`;

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
    put(this.at('.about'), about ? this.about(about) : '');
    const [first, last] = stream.bounds();
    if (streams.recorded) this.showScrub(first, last, Math.max(first, stream.begins()));
    const when = this.cursor ?? last, view = this.window(first, last, when);
    this.showLanes(view, when);
    this.showTiles(view, when);
    this.showEvents(when);
  }

  about(session) {
    const engine = this.stream.status?.engine || session.engine;
    return `${session.recogniser} on ${engine}, each ${session.hop_s} s · ${session.source}`;
  }

  showState(nowMs) {
    const { stream } = this, silentS = stream.heardMs === null ? 0 : (nowMs - stream.heardMs) / 1000;
    const stale = !streams.recorded && !stream.ended && silentS >= STALE_S;
    const kind = streams.recorded ? 'recorded' : stream.ended ? 'ended' : stale ? 'stale' : stream.pausedAt(Infinity) ? 'paused' : 'live';
    const words = { recorded: 'recording', ended: 'ended', live: '● live', paused: '❚❚ paused', stale: `stale: no message for ${Math.floor(silentS)} s` };
    put(this.at('.state'), words[kind]);
    this.at('.state').className = `pill state ${kind}`;
    this.root.classList.toggle('stale', stale);
  }

  showScrub(first, last, begin) {
    const bar = this.at('.scrub input');
    this.at('.scrub').hidden = false;
    bar.min = first;
    bar.max = last;
    this.cursor ??= begin;
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
      this.lanes.get(person).show(lane, view, when, this.stream);
    }
    this.at('.nobody').hidden = there.length > 0;
  }

  showTiles(view, when) {
    const row = this.stream.statuses[indexAt(this.stream.statuses, when)], status = this.cursor === null ? this.stream.status : null;
    const number = (value, digits) => (value === null || value === undefined ? '–' : value.toFixed(digits));
    const drops = status ? Object.entries(status.drops).filter(([, n]) => n).map(([name, n]) => `${name} ${n}`).join(', ') : '';
    const gaps = status && (status.overruns || status.audio_gap_s >= 0.05) ? `${status.overruns} overruns, ${status.audio_gap_s.toFixed(1)} s unheard` : '';
    this.tile('Video', 1, number(row?.[1], 1), 'frames/s', status ? `${number(status.analysed_rate_hz, 1)} analysed` : '', view);
    this.tile('Estimates', 2, number(row?.[2], 1), 'hops/s', status ? `${status.persons} tracked` : '', view);
    this.tile('Latency', 3, number(row?.[3], 0), 'ms', row && row[4] !== null ? `p99 ${number(row[4], 0)} ms` : '', view);
    this.tile('Engine', 5, number(row?.[5], 0), 'ms', status?.engine_ms ? `p99 ${number(status.engine_ms[1], 0)} ms` : '', view);
    this.tile('Dropped', 6, number(row?.[6], 0), '', [drops, gaps].filter(Boolean).join(', '), view, row?.[6] > 0);
    this.tile('Clock drift', 7, number(row?.[7], 1), 'ppm', '', view);
    if (!streams.recorded) {
      const unread = streams.unreadable ? `${streams.unreadable} unreadable` : '';
      const late = streams.lateMs === null ? '' : `${streams.lateMs.toFixed(0)} ms late`;
      this.tile('Lost on the way here', null, String(streams.lost), '', unread || late, view, streams.lost > 0);
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

  show(lane, view, when, stream) {
    this.view = view;
    const row = lane.rows[indexAt(lane.rows, when)], sinceS = row ? when - row[ROW_T] : Infinity, gone = sinceS > GONE_S + Math.max(stream.hopS, row?.[ROW_HOP] ?? 0);
    const label = row && !gone ? row[ROW_LABEL] : null, who = this.person ? `Person ${this.person}` : 'A voice';
    put(this.at('.who'), view.cursor === null ? who : `${who}, at ${clock(view.cursor, 1)}`);
    put(this.at('.label'), label ?? (!row ? 'Not yet' : gone ? (stream.pausedAt(when) ? 'Paused' : 'Gone') : 'No estimate'));
    this.root.classList.toggle('none', label === null);
    this.root.classList.toggle('gone', gone);
    if (label === null) this.root.style.removeProperty('--tint');
    else this.root.style.setProperty('--tint', colourOf(label, lane.labels));
    this.at('.meter').hidden = label === null;
    this.at('.meter i').style.width = `${(row?.[ROW_SURE] ?? 0) * 100}%`;
    put(this.at('.sure b'), label === null ? '' : percent(row[ROW_SURE]));
    put(this.at('.why'), this.why(row, label, sinceS, gone));
    put(this.at('.aside'), row && !gone ? this.aside(row) : '');
    this.showBars(lane.labels, gone ? null : row);
    this.at('canvas').setAttribute('aria-label', `Posterior of ${who} over time`);
    const told = stream.events.filter(({ person }) => (person ?? this.person) === this.person);
    drawLane(this.at('canvas'), lane, view, told);
  }

  why(row, label, sinceS, gone) {
    if (gone) return Number.isFinite(sinceS) ? `last estimate ${Math.round(sinceS)} s ago` : '';
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
