// What the map is told and what its controls do. monju/ui/components/map_messages.py says what the messages hold.
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0))

function start() {
  if (!props.value) return
  const data = JSON.parse(props.value), before = state.data?.run
  for (const each of Object.values(data.maps ?? {})) each.at = new Float32Array(bytes(each.at).buffer)
  for (const each of Object.values(data.groups ?? {})) each.of = bytes(each.of)
  state.data = data
  root.classList.toggle('missing', !!data.missing)
  note.hidden = !data.missing
  if (data.missing) { note.innerHTML = data.missing; return }
  Object.assign(state, { hits: [], pointed: null, chosen: null })
  if (!data.maps[state.projection] || before !== data.run) state.projection = Object.keys(data.maps)[0]
  if (!data.groups[state.colour]) state.colour = 'cluster'
  root.dataset.run = data.run
  canvas.setAttribute('aria-label', data.say.canvas)
  control()
  say()
  if (view.width) fit()
  resize()
  listen()
}

// ---- the controls: drawn by the server, their state kept here

function control() {
  const { data } = state
  controls.innerHTML = data.controls
  state.layers ??= new Set([...controls.querySelectorAll('#map-layers [checked]')].map(box => box.value))
  for (const box of controls.querySelectorAll('#map-layers input')) box.checked = state.layers.has(box.value)
  find('#map-colour').value = state.colour
  find('#map-projection').value = state.projection
  find('#map-search').value = state.word
  find('#map-only').checked = state.only
  zooms.replaceChildren(...[['+', 'map_zoom_in', () => zoom(1.4)], ['−', 'map_zoom_out', () => zoom(1 / 1.4)], ['⤢', 'map_whole', () => { fit(); paint() }]].map(([sign, key, act]) => {
    const button = document.createElement('button')
    Object.assign(button, { type: 'button', textContent: sign, title: data.say[key], ariaLabel: data.say[key], onclick: act })
    return button
  }))
}

// the legend and the line under the map
function say() {
  const { groups, say } = state.data
  legend.replaceChildren(...groups[state.colour].names.map((name, group) => {
    const line = document.createElement('li'), look = looks(group), picture = document.createElement('canvas')
    picture.width = picture.height = 28
    const path = new Path2D(), brush = picture.getContext('2d')
    look.shape(path, 14, 14, 8)
    brush.globalAlpha = Math.max(look.opacity, 0.6)
    brush.fillStyle = look.color
    brush.fill(path)
    const words = document.createElement('span')
    words.innerHTML = name // worded by the page, its values escaped there
    line.append(picture, words)
    return line
  }))
  const movable = flat() && state.data.movable && here(), hand = matchMedia('(pointer: coarse)').matches ? 'touch' : 'mouse'
  about.textContent = [map().about, movable && shows('alpha') && say.map_shade, movable && say.map_drag, texts() && say[`map_read_${hand}`], say[`map_${hand}`]].filter(Boolean).join(' ')
}

controls.addEventListener('input', event => {
  const { id, value, checked } = event.target
  if (id === 'map-search') { state.word = value; search() }
  else if (id === 'map-only') state.only = checked
  else if (id === 'map-colour') { state.colour = value; say() }
  else if (id === 'map-projection') { state.projection = value; fit(); say() }
  else { state.layers[checked ? 'add' : 'delete'](value); say() }
  paint()
})
controls.addEventListener('click', ({ target }) => {
  if (target.id === 'map-next') step(1)
  if (target.id === 'map-before') step(-1)
  if (target.id === 'map-keep' && here()) state.kept.push(structuredClone({ ...state.marker, shade: null }))
  if (target.id === 'map-clear') state.kept = []
  find('#map-clear').hidden = !state.kept.length
  paint()
})
controls.addEventListener('keydown', event => {
  if (event.target.id === 'map-search' && event.key === 'Enter') { event.preventDefault(); step(event.shiftKey ? -1 : 1) }
})

function search() {
  const word = state.word.trim().toLocaleLowerCase(), all = texts() ?? [], { say } = state.data
  state.hits = word ? all.flatMap((text, i) => text.toLocaleLowerCase().includes(word) ? [i] : []) : []
  if (!word) state.word = ''
  find('#map-found').textContent = !word ? '' : state.hits.length ? say.found.replace('#n', state.hits.length.toLocaleString()) : say.map_find_none
  find('.map-hits').hidden = !state.hits.length
  choose(null)
}

function step(by) {
  const { hits, chosen } = state, now = hits.indexOf(chosen)
  if (hits.length) goTo(hits[now < 0 ? (by > 0 ? 0 : hits.length - 1) : (now + by + hits.length) % hits.length])
}

// puts a sentence of the map into the box: it is read as if it had been typed
tip.querySelector('button').addEventListener('click', () => {
  const box = document.querySelector('#map-sentence textarea')
  box.value = texts()[state.chosen]
  box.dispatchEvent(new Event('input', { bubbles: true }))
  choose(null)
})

// ---- what stands beside the map points into it

const beside = element.closest('#map-row') ?? document.body
const pointedAt = event => event.target.closest?.('[data-place]:not(.map-tip)')
beside.addEventListener('click', event => {
  const one = pointedAt(event)
  if (one) goTo(+one.dataset.place)
  if (event.target.dataset?.act === 'back') { state.wish = null; window.monjuWish(null) }
})
for (const name of ['mouseover', 'focusin']) beside.addEventListener(name, event => { const one = pointedAt(event); if (one) point(+one.dataset.place) })
for (const name of ['mouseout', 'focusout']) beside.addEventListener(name, event => { if (pointedAt(event)) point(null) })
beside.addEventListener('keydown', event => { if (event.key === 'Escape') { point(null); choose(null) } })

// ---- messages

function marker(text) {
  state.marker = text ? JSON.parse(text) : {}
  const { moved, at } = state.marker
  if (!moved || at.plane.every((value, i) => Math.abs(value - state.wish?.[i]) < 1e-6)) state.wish = null
  if (state.wish) suppose(state.wish) // the answer to an older place: the hand has gone on, and its own answer will follow
  if (state.data?.maps) say()
  paint()
}

// the points' sentences, or that they cannot be had; whichever of map and sentences comes first
function sentences(text) {
  if (text) state.sentences = JSON.parse(text)
  listen()
}

function listen() {
  if (!state.data?.maps) return
  const known = state.sentences?.run === state.data.run
  find('.map-find').hidden = !texts()
  find('.map-gone').hidden = !!texts()
  if (known && !texts()) find('.map-gone').innerHTML = state.sentences.excuse
  if (texts() && state.word) search()
  say()
  tell()
  paint()
}

// placed: where a point is, in pixels from the frame's corner
window.monjuMap = { marker, sentences, state, view, placed }
for (const [name, said] of Object.entries(window.monjuSaid ?? {})) window.monjuMap[name](said)
new ResizeObserver(resize).observe(frame)
new MutationObserver(() => { if (state.data?.maps) { say(); paint() } }).observe(document.body, { attributes: true, attributeFilter: ['class'] })
watch('value', start)
start()
