'use strict';
// The page: what the streams say, put on the screen once a message came, something was touched or a second passed.

const streams = new Streams(), views = new Map();  // of what the feed says; of what is on the screen, by stream
let connectedMs = null, lostMs = performance.now(), span = 60, shownFor = '', due = false;

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
