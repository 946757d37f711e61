// What a hand does on the map. A mouse drags and points; one finger scrolls the page, two move the map, a tap points.
const NEAR = { mouse: 10, touch: 24 } // pixels

function nearest(left, top, reach) {
  const count = state.data?.n ?? 0, only = state.only && state.word ? new Set(state.hits) : null
  let best = null, least = reach * reach
  if (shows('points')) for (let i = 0; i < count; i++) {
    if (only && !only.has(i)) continue
    const [x, y] = placed(i), far = (x - left) ** 2 + (y - top) ** 2
    if (far < least) { least = far; best = i }
  }
  return best
}

const within = event => { const box = frame.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top] }
const onMap = event => event.target === canvas

// ---- pointing

function point(i) {
  if (state.pointed === i) return
  state.pointed = i
  tell()
  paint()
}

function choose(i) {
  Object.assign(state, { chosen: i, pointed: null })
  tell()
  paint()
}

// brings a sentence into view
function goTo(i) {
  const [x, y] = placed(i), room = 40
  if (x < room || y < room || x > view.width - room || y > view.height - room) {
    view.x = map().at[2 * i]
    view.y = map().at[2 * i + 1]
  }
  choose(i)
}

function tell() {
  const i = state.pointed ?? state.chosen
  tip.hidden = i === null
  if (tip.hidden) return delete tip.dataset.place
  const { groups, say } = state.data, sentence = texts()?.[i], use = tip.querySelector('button')
  tip.dataset.place = i
  tip.querySelector('p').textContent = sentence ?? ''
  tip.querySelector('p').hidden = !sentence
  tip.querySelector('small').innerHTML = Object.values(groups).map(({ of, names }) => names[of[i]]).join(' · ') // escaped by the page
  use.textContent = say.map_use
  use.hidden = !sentence || sentence.endsWith('…') || state.pointed !== null // while the pointer rests, the tip lets it through
  tip.classList.toggle('held', state.pointed === null)
}

function moveTip() {
  if (tip.hidden) return
  const [x, y] = placed(+tip.dataset.place), { offsetWidth: width, offsetHeight: height } = tip
  const below = y + 14 + height <= view.height - 4
  tip.style.left = `${Math.max(4, Math.min(view.width - width - 4, x + 12))}px`
  tip.style.top = `${below ? y + 14 : Math.max(4, y - height - 14)}px`
}

// ---- a hypothetical place: its distances at once, α and the verdict from the server, one question at a time

let asking = null
function ask(x, y) {
  if (!flat() || !state.data.movable || !here()) return
  state.wish = [x, y]
  suppose(state.wish)
  paint()
  asking ??= setTimeout(() => { asking = null; window.monjuWish(state.wish ?? state.marker.at.plane) }, 60)
}

function suppose([x, y]) {
  const { marker } = state
  marker.at = { ...marker.at, plane: [x, y] }
  marker.distances = state.data.maps.plane.centres.map(([a, b]) => Math.sqrt((x - a) ** 2 + (y - b) ** 2 + marker.off ** 2))
  marker.moved = true
}

function movePin() {
  const at = here()
  pin.hidden = find('#map-keep').hidden = !at
  if (!at) return
  pin.style.left = `${X(at[0])}px`
  pin.style.top = `${Y(at[1])}px`
  pin.classList.toggle('moved', !!state.marker.moved)
  pin.setAttribute('aria-label', state.data.say.you)
  pin.title = state.marker.text ?? ''
}

// ---- mouse

let drag = null // {x, y, far}
frame.addEventListener('pointerdown', event => {
  if (!onMap(event) || event.pointerType === 'touch' || event.button) return
  drag = { x: event.clientX, y: event.clientY, far: 0 }
  canvas.setPointerCapture(event.pointerId)
})
frame.addEventListener('pointermove', event => {
  if (event.pointerType === 'touch') return
  if (drag) {
    const across = event.clientX - drag.x, down = event.clientY - drag.y
    drag.far += Math.hypot(across, down)
    if (drag.far > 4) pan(across, down)
    Object.assign(drag, { x: event.clientX, y: event.clientY })
  } else point(onMap(event) && state.data?.maps ? nearest(...within(event), NEAR.mouse) : null)
})
frame.addEventListener('pointerleave', event => { if (event.pointerType !== 'touch') point(null) })
canvas.addEventListener('click', event => {
  const moved = drag?.far > 4, touch = event.pointerType === 'touch'
  drag = null
  if (moved || !state.data?.maps) return
  const i = nearest(...within(event), touch ? NEAR.touch : NEAR.mouse)
  choose(i)
  if (i === null && !touch) ask(...dataAt(...within(event)))
})
canvas.addEventListener('pointercancel', () => { drag = null })
frame.addEventListener('wheel', event => {
  if (!event.ctrlKey && !event.metaKey) return // else the page scrolls
  event.preventDefault()
  zoom(Math.exp(-event.deltaY / 300), ...within(event))
}, { passive: false })

// ---- two fingers

let grip = null // {x, y, apart} of the two fingers
const held = ({ touches: [one, two] }) => ({ x: (one.clientX + two.clientX) / 2, y: (one.clientY + two.clientY) / 2,
  apart: Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY) })
for (const name of ['touchstart', 'touchmove']) frame.addEventListener(name, event => {
  if (event.touches.length !== 2) { grip = null; return }
  event.preventDefault()
  const now = held(event)
  if (grip && name === 'touchmove') {
    pan(now.x - grip.x, now.y - grip.y)
    zoom(now.apart / (grip.apart || 1), ...within({ clientX: now.x, clientY: now.y }))
  }
  grip = now
}, { passive: false })
frame.addEventListener('touchend', () => { grip = null })

// ---- the marker, by hand and by keys

pin.addEventListener('pointerdown', event => { event.preventDefault(); event.stopPropagation(); pin.focus(); pin.setPointerCapture(event.pointerId); pin.dataset.held = 'yes' })
pin.addEventListener('pointermove', event => { if (pin.dataset.held) ask(...dataAt(...within(event))) })
for (const name of ['pointerup', 'pointercancel']) pin.addEventListener(name, () => { delete pin.dataset.held })
pin.addEventListener('keydown', event => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key]
  if (!step || !flat() || !here()) return
  event.preventDefault()
  const [x, y] = here(), far = view.width / view.scale / 60
  ask(x + step[0] * far, y + step[1] * far)
})
