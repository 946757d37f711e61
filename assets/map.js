// The map: draws what monju/ui/clusters.py tells. The points are drawn once; a marker that moves restyles its own traces
// alone, so that zoom stays. Runs as a gr.HTML's js_on_load, with `element`, `props` and `watch`.
const root = element.querySelector('.map'), plot = root.querySelector('.map-plot'), tip = root.querySelector('.map-tip')
const note = root.querySelector('.map-note'), about = root.querySelector('.map-about')
const PALETTE = ['#d55e00', '#0072b2', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8a8a00']
const SHAPES = ['circle', 'diamond', 'square', 'triangle-up', 'cross', 'star', 'x']
const state = { data: null, marker: {}, lit: [], projection: 'plane', colour: 'cluster', texts: new Map() }
const pin = document.createElement('button')
pin.className = 'map-pin'
pin.hidden = true
const over = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
over.classList.add('map-over')

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0))
const style = name => getComputedStyle(root).getPropertyValue(name).trim()
const dark = () => document.body.classList.contains('dark')
const map = () => state.data.maps[state.projection]
const flat = () => state.projection === 'plane'

let loading
const plotly = () => loading ??= new Promise((done, failed) => {
  if (window.Plotly?.newPlot && window.Plotly.version >= '3') return done(window.Plotly)
  const script = document.createElement('script')
  script.src = PLOTLY
  script.onload = () => done(window.Plotly)
  script.onerror = failed
  document.head.appendChild(script)
})

function read(text) {
  const data = JSON.parse(text)
  if (data.missing) return data
  for (const each of Object.values(data.maps)) each.at = new Float32Array(bytes(each.at).buffer)
  for (const each of Object.values(data.groups)) each.of = bytes(each.of)
  data.rows = new Int32Array(bytes(data.rows).buffer)
  return data
}

function shaded() {
  const shade = flat() && state.marker.shade
  if (!shade) return { type: 'heatmap', z: [[0]], x: [0], y: [0], visible: false, showscale: false }
  const alpha = new Float32Array(bytes(shade.alpha).buffer), step = (shade.to - shade.from) / (shade.n - 1)
  const axis = Array.from({ length: shade.n }, (_, i) => shade.from + i * step)
  const z = axis.map((_, i) => Array.from(alpha.subarray(i * shade.n, (i + 1) * shade.n)))
  return { type: 'contour', x: axis, y: axis, z, showscale: false, hoverinfo: 'skip', visible: true, ncontours: 12, name: state.data.say.map_shade,
    showlegend: false, line: { width: 1, color: style('--line') },
    contours: { coloring: 'heatmap', showlabels: true, labelfont: { size: 10, color: style('--faint') } },
    colorscale: dark() ? [[0, '#10151d'], [1, '#3a4a63']] : [[0, '#ffffff'], [1, '#c9d5e6']] }
}

function groups() {
  const { of, names } = state.data.groups[state.colour], at = map().at
  const pale = state.lit.length > 0
  return names.map((name, g) => {
    const place = [], x = [], y = []
    for (let i = 0; i < of.length; i++) if (of[i] === g) { place.push(i); x.push(at[2 * i]); y.push(at[2 * i + 1]) }
    // right or alike is grey, wrong or different one strong colour, larger and on top
    const verdicts = state.colour === 'correct' || state.colour === 'differ', strong = verdicts && g === 1
    const color = verdicts ? (strong ? PALETTE[0] : style('--faint')) : PALETTE[(state.colour === 'cluster' ? g + 1 : g) % 7]
    return { type: KIND, mode: 'markers', name, x, y, customdata: place, hoverinfo: 'none',
      marker: { color, symbol: SHAPES[g % 7], size: strong ? 8 : 5, opacity: pale ? 0.15 : verdicts && !strong ? 0.3 : 0.6 } }
  })
}

function lights() {
  const at = map().at
  return { type: KIND, mode: 'markers', name: state.data.say.lit, x: state.lit.map(i => at[2 * i]), y: state.lit.map(i => at[2 * i + 1]),
    customdata: state.lit, hoverinfo: 'none', showlegend: state.lit.length > 0,
    marker: { size: 10, symbol: 'circle-open', color: style('--ink'), line: { width: 2.5 } } }
}

// what stands above the points and follows the marker: drawn over the picture, so that no point hides it and no trace is redrawn
function overlay() {
  const { xaxis, yaxis } = plot._fullLayout, at = state.marker.at?.[state.projection], here = map()
  const X = x => (xaxis._offset + xaxis.l2p(x)).toFixed(1), Y = y => (yaxis._offset + yaxis.l2p(y)).toFixed(1)
  const line = (kind, [a, b], [c, d]) => `<line class="${kind}" x1="${X(a)}" y1="${Y(b)}" x2="${X(c)}" y2="${Y(d)}"/>`
  const word = (kind, [a, b], text) => `<text class="${kind}" x="${X(a)}" y="${Y(b)}" dy=".35em">${escaped(text)}</text>`
  let drawn = ''
  if (here.meeting) for (const [a, b] of here.rays) drawn += line('border', here.meeting, [here.meeting[0] + 9 * a, here.meeting[1] + 9 * b])
  if (at) for (const centre of here.centres) drawn += line('string', at, centre)
  const middle = [0, 1].map(i => here.centres.reduce((sum, centre) => sum + centre[i], 0) / here.centres.length)
  here.centres.forEach((centre, c) => {
    drawn += `<circle class="centre" cx="${X(centre[0])}" cy="${Y(centre[1])}" r="14"/>` + word('name', centre, state.data.names[c])
    // a region's words stand on its far side, where no border and rarely the marker is
    drawn += word('region', centre.map((at, i) => middle[i] + 1.75 * (at - middle[i])), (state.data.words[c] ?? []).join(' · '))
    if (!at) return
    const short = Math.hypot(X(at[0]) - X(centre[0]), Y(at[1]) - Y(centre[1])) < 90  // no room on the line: below the centre
    const told = short ? [centre[0], yaxis.p2l(yaxis.l2p(Math.min(centre[1], at[1])) + 30)] : [0.4 * at[0] + 0.6 * centre[0], 0.4 * at[1] + 0.6 * centre[1]]
    drawn += word('length', told, state.marker.distances[c].toFixed(3))
  })
  for (const each of state.marker.kept ?? []) {
    const place = each.at[state.projection]
    if (place) drawn += word('kept', place, '★ ' + (each.text.length > 28 ? each.text.slice(0, 27) + '…' : each.text))
  }
  over.innerHTML = drawn
}

const escaped = text => text.replace(/[&<>]/g, letter => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[letter])

// the axes' first view: all but the few farthest points
function view() {
  const at = map().at, x = [], y = []
  for (let i = 0; i < at.length; i += 2) { x.push(at[i]); y.push(at[i + 1]) }
  for (const [a, b] of map().centres) { x.push(a); y.push(b) }
  const range = values => {
    values.sort((a, b) => a - b)
    const low = values[Math.floor(values.length * 0.002)], high = values[Math.ceil(values.length * 0.998) - 1], room = (high - low) * 0.06 || 1
    return [low - room, high + room]
  }
  return [range(x), range(y)]
}

let KIND = 'scattergl'
try { if (!document.createElement('canvas').getContext('webgl2') && !document.createElement('canvas').getContext('webgl')) KIND = 'scatter' } catch { KIND = 'scatter' }

async function draw() {
  const Plotly = await plotly()
  if (!state.data || state.data.missing) return
  const points = groups(), [x, y] = view()
  const axis = { showgrid: false, zeroline: false, showticklabels: false, ticks: '' }
  await Plotly.react(plot, [shaded(), ...points, lights()], {
    margin: { l: 4, r: 4, t: 4, b: 4 }, paper_bgcolor: style('--paper'), plot_bgcolor: style('--paper'), font: { color: style('--ink'), size: 14 },
    xaxis: { ...axis, range: x }, yaxis: { ...axis, range: y, ...(flat() ? { scaleanchor: 'x' } : {}) },
    uirevision: state.data.run + state.projection, legend: { orientation: 'h', x: 0, y: 1, yanchor: 'top', bgcolor: 'rgba(0,0,0,0)', itemsizing: 'constant' },
    dragmode: 'pan', hovermode: 'closest' },
    { scrollZoom: true, displaylogo: false, responsive: true, modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d', 'toImage'] })
  note.hidden = true
  about.textContent = state.data.say[map().about] + (flat() && state.data.movable ? ` ${state.data.say.map_shade}` : '')
  if (!plot.dataset.wired) wire()
  settle()
}

function wire() {
  plot.dataset.wired = 'yes'
  plot.append(over, pin)
  plot.on('plotly_afterplot', settle)
  plot.on('plotly_relayouting', settle)
  plot.on('plotly_hover', event => hover(event.points[0]))
  plot.on('plotly_unhover', () => { tip.hidden = true })
  let down
  plot.addEventListener('pointerdown', event => {
    down = event.target === pin || event.target.closest('.legend, .modebar') ? null : [event.clientX, event.clientY]
  }, true)
  window.addEventListener('pointerup', event => {  // plotly covers the page while a button is down: the plot itself never hears of it
    if (down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) <= 4) ask(...where(event))
    down = null
  }, true)
  pin.addEventListener('pointerdown', event => { event.preventDefault(); event.stopPropagation(); pin.focus(); pin.setPointerCapture(event.pointerId); pin.dataset.held = 'yes' })
  pin.addEventListener('pointermove', event => { if (pin.dataset.held) ask(...where(event)) })
  pin.addEventListener('pointerup', () => { delete pin.dataset.held })
  pin.addEventListener('keydown', event => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key]
    if (!step || !flat()) return
    event.preventDefault()
    const [low, high] = plot._fullLayout.xaxis.range, at = state.marker.at.plane
    ask(at[0] + step[0] * (high - low) / 60, at[1] + step[1] * (high - low) / 60)
  })
}

function where(event) {
  const box = plot.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout
  return [xaxis.p2l(event.clientX - box.left - xaxis._offset), yaxis.p2l(event.clientY - box.top - yaxis._offset)]
}

// a hypothetical place: distances at once, α and the verdict from the server, one question at a time
let asking = null
function ask(x, y) {
  if (!flat() || !state.data.movable || !state.marker.at) return
  state.wish = [x, y]
  place(state.wish)
  follow(false)
  asking ??= setTimeout(() => {
    asking = null
    window.monjuAsk.wish(state.marker.at.plane)
  }, 60)
}

function place([x, y]) {
  const { marker } = state
  marker.at = { ...marker.at, plane: [x, y] }
  marker.distances = state.data.maps.plane.centres.map(([a, b]) => Math.sqrt((x - a) ** 2 + (y - b) ** 2 + marker.off ** 2))
  marker.moved = true
}

function mark(text) {
  state.marker = text ? JSON.parse(text) : {}
  const { moved, at } = state.marker
  if (!moved || at.plane.every((value, i) => Math.abs(value - state.wish?.[i]) < 1e-6)) state.wish = null
  if (state.wish) place(state.wish)  // the answer to an older place: the hand has gone on, and its own answer will follow
  if (!pin.dataset.held) follow(true)
}

async function follow(all) {
  if (!state.data || state.data.missing || !plot.data) return
  if (all) {
    const Plotly = await plotly(), shade = shaded()
    if (shade.visible && plot.data[0].type !== 'contour') return draw()
    await Plotly.restyle(plot, { x: [shade.x], y: [shade.y], z: [shade.z], visible: shade.visible }, [0])
  }
  settle()
}

function settle() {
  const at = state.marker.at?.[state.projection], layout = plot._fullLayout
  if (layout && state.data?.maps) overlay()
  pin.hidden = !at || !layout
  if (pin.hidden) return
  const { xaxis, yaxis } = layout
  pin.style.left = `${xaxis._offset + xaxis.l2p(at[0])}px`
  pin.style.top = `${yaxis._offset + yaxis.l2p(at[1])}px`
  pin.classList.toggle('moved', !!state.marker.moved)
  pin.setAttribute('aria-label', state.data.say.you)
  pin.title = state.marker.text ?? ''
}

let resting
function hover(point) {
  const i = point?.customdata
  if (i === undefined || typeof i !== 'number') return
  const { groups, rows, say, run } = state.data
  state.pointed = point
  const facts = ['label', 'cluster'].map(by => groups[by].names[groups[by].of[i]]).join(' · ')
  const row = say.row.replace('#', rows[i])
  const sentence = state.texts.get(i)
  tip.textContent = `${sentence ? sentence + '\n' : ''}${facts} · ${row}`
  tip.hidden = false
  tip.style.left = `${Math.min(point.xaxis._offset + point.xaxis.l2p(point.x) + 12, plot.clientWidth - 270)}px`
  tip.style.top = `${point.yaxis._offset + point.yaxis.l2p(point.y) + 12}px`
  tip.dataset.place = i
  clearTimeout(resting)
  if (state.data.readable && !state.texts.has(i)) resting = setTimeout(() => window.monjuAsk.pointer([run, i, Date.now()]), 40)
}

// the answer to a question about the pointer
function told(text) {
  const [run, i, , sentence] = JSON.parse(text)
  if (run !== state.data?.run) return  // of the map before
  state.texts.set(i, sentence)
  if (tip.dataset.place === String(i) && !tip.hidden) hover(state.pointed)
}

async function start() {
  if (!props.value) return
  state.data = read(props.value)
  state.texts.clear()
  state.lit = []
  plot.hidden = !!state.data.missing
  about.textContent = ''
  if (state.data.missing) { note.hidden = false; note.innerHTML = state.data.missing; return }
  if (!state.data.maps[state.projection] || state.run !== state.data.run) state.projection = Object.keys(state.data.maps)[0]
  if (!state.data.groups[state.colour]) state.colour = 'cluster'
  state.run = root.dataset.run = state.data.run
  await draw()
}

window.monjuMap = {
  mark,
  tell: told,
  light: text => { state.lit = text ? JSON.parse(text) : []; draw() },
  project: name => { if (state.data?.maps?.[name]) { state.projection = name; draw() } },
  colour: name => { if (state.data?.groups?.[name]) { state.colour = name; draw() } },
}
watch('value', start)
start()
