'use strict';
// What the page knows: streams by name, each with its newest session and status, events, and rows of persons and rates.
// Rows are what `History.snapshot` says: [t, label, reason, confidence, age_ms, [face, voice], hop_s, p...] and
// [t, frames/s, hops/s, age p50, age p99, engine p50, drops, drift].

const KEPT_S = 3600, FINE_ROWS = 1200, COARSE_S = 2, MOST_ROWS = 4500, MOST_EVENTS = 100, MOST_STREAMS = 8, MOST_PERSONS = 16, BACK_S = 1;
const STALE_S = 3, HOP_S = 0.25, ROW_T = 0, ROW_LABEL = 1, ROW_REASON = 2, ROW_SURE = 3, ROW_AGE = 4, ROW_WEIGHTS = 5, ROW_HOP = 6, ROW_P = 7;

class Stream {
  constructor(name) {
    Object.assign(this, { name, session: null, status: null, statuses: [], events: [], lanes: new Map(), heardMs: null });
  }

  static from(name, kept, silentS, nowMs) {
    const stream = new Stream(name);
    Object.assign(stream, { session: kept.session, status: kept.status, statuses: kept.statuses, events: kept.events });
    for (const lane of kept.lanes) stream.lanes.set(lane.person, { labels: lane.labels, rows: lane.rows });
    stream.heardMs = silentS === undefined ? null : nowMs - silentS * 1000;
    return stream;
  }

  take(message) {
    if (message.type === 'session') this.session = message;
    if (message.type === 'event') this.events = [...this.events, message].slice(-MOST_EVENTS);
    if (message.type === 'status') { this.status = message; append(this.statuses, statusRow(message)); }
    if (message.type === 'estimate') {
      const labels = Object.keys(message.posterior);
      let lane = this.lanes.get(message.person);
      if (!lane || lane.labels.join('\n') !== labels.join('\n')) lane = { labels, rows: [] };
      append(lane.rows, estimateRow(message, this.hopS));
      this.lanes.delete(message.person);  // those heard last stand at the end
      this.lanes.set(message.person, lane);
      if (this.lanes.size > MOST_PERSONS) this.lanes.delete(this.lanes.keys().next().value);
      for (const [person, { rows }] of this.lanes) if (rows.at(-1)[ROW_T] < message.t - KEPT_S) this.lanes.delete(person);
    }
  }

  get hopS() { return this.session?.hop_s ?? HOP_S; }

  get ended() { return this.events.length > 0 && this.events.at(-1).kind === 'end'; }

  pausedAt(when) { return this.events.findLast(({ kind, t }) => t <= when && ['paused', 'resumed'].includes(kind))?.kind === 'paused'; }

  begins() { return Math.min(...[...this.lanes.values()].map(({ rows }) => rows[0][ROW_T])); }  // with the first estimate

  bounds() {  // media seconds of the first and the last row of anything
    const series = [this.statuses, ...[...this.lanes.values()].map((lane) => lane.rows)].filter((rows) => rows.length);
    if (!series.length) return [0, 0];
    return [Math.min(...series.map((rows) => rows[0][ROW_T])), Math.max(...series.map((rows) => rows.at(-1)[ROW_T]))];
  }
}

class Streams {
  constructor() { Object.assign(this, { all: new Map(), recorded: false, source: '', lost: 0, unreadable: 0, lateMs: null }); }

  takeState(state, nowMs) {
    this.recorded = state.recorded;
    this.source = state.source;
    this.all = new Map(Object.entries(state.streams).map(
      ([name, kept]) => [name, Stream.from(name, kept, state.silent_s[name], nowMs)]));
    this.takeBeat(state, nowMs);
  }

  takeBeat(beat, nowMs) {
    this.lost = beat.lost;
    this.unreadable = beat.unreadable;
    this.lateMs = beat.late_ms;
    for (const [name, silentS] of Object.entries(beat.silent_s)) {
      if (this.all.has(name)) this.all.get(name).heardMs = nowMs - silentS * 1000;
    }
  }

  take(message, nowMs) {
    let stream = this.all.get(message.stream);
    const restarted = stream && message.type === 'session' && stream.session && stream.session.session !== message.session;
    if (!stream || restarted) {
      stream = new Stream(message.stream);
      this.all.delete(message.stream);
      this.all.set(message.stream, stream);
      if (this.all.size > MOST_STREAMS) this.forgetOne();
    }
    stream.heardMs = nowMs;
    stream.take(message);
  }

  forgetOne() {  // which was silent the longest
    const silent = [...this.all].filter(([, { heardMs }]) => heardMs !== null).sort(([, a], [, b]) => a.heardMs - b.heardMs);
    this.all.delete(silent[0][0]);
  }
}

function estimateRow(m, hopS) {
  const weights = ['face', 'voice'].map((name) => m.modalities[name] ?? 0);
  return [m.t, m.label, m.reason, m.confidence, m.age_ms, weights, hopS, ...Object.values(m.posterior)];
}

function statusRow(m) {
  const drops = Object.values(m.drops).reduce((sum, n) => sum + n, 0);
  return [m.t, m.frame_rate_hz, m.hop_rate_hz, ...(m.age_ms ?? [null, null]), m.engine_ms?.[0] ?? null, drops, m.drift_ppm];
}

function append(rows, row) {  // the newest as they come, older ones each two seconds, none older than an hour
  if (rows.length && row[ROW_T] < rows.at(-1)[ROW_T] - BACK_S) rows.length = 0;
  rows.push(row);
  if (rows.length <= MOST_ROWS) return;
  const fine = rows.splice(-FINE_ROWS), coarse = [];
  for (const old of rows) {
    if (old[ROW_T] < row[ROW_T] - KEPT_S) continue;
    if (!coarse.length || old[ROW_T] >= coarse.at(-1)[ROW_T] + COARSE_S) coarse.push(old);
  }
  rows.splice(0, rows.length, ...coarse, ...fine);
}

function indexAt(rows, t) {  // of the newest row that is not after t, or -1
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle][ROW_T] <= t) low = middle + 1; else high = middle;
  }
  return low - 1;
}
