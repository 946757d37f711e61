// The map's parts, its state, and where a point of the data is on the screen. First of four files that run as one script
// of a gr.HTML, with `element`, `props`, `trigger` and `watch`: map_view, map_draw, map_pointer, map.
const root = element.querySelector('.map'), frame = root.querySelector('.map-plot')
const canvas = frame.querySelector('canvas'), over = frame.querySelector('.map-over'), pin = frame.querySelector('.map-pin')
const tip = frame.querySelector('.map-tip'), note = frame.querySelector('.map-note')
const controls = root.querySelector('.map-controls'), legend = root.querySelector('.map-legend')
const about = root.querySelector('.map-about'), zooms = root.querySelector('.map-zoom')
const find = id => controls.querySelector(id)

const state = {
  data: null, marker: {}, sentences: null, kept: [], // what the server said, and what was pinned
  colour: 'cluster', projection: 'plane', layers: null, only: false, word: '', // what the controls say
  hits: [], pointed: null, chosen: null, // places in the sample
}
const view = { x: 0, y: 0, scale: 1, width: 0, height: 0 } // the data's point in the middle, pixels for a unit, the frame's size

const map = () => state.data.maps[state.projection]
const flat = () => state.projection === 'plane'
const shows = layer => state.layers.has(layer)
const texts = () => state.sentences?.run === state.data?.run ? state.sentences.texts : null
const here = () => state.marker.run === state.data?.run ? state.marker.at?.[state.projection] : undefined
const X = x => view.width / 2 + (x - view.x) * view.scale, Y = y => view.height / 2 - (y - view.y) * view.scale
const dataAt = (left, top) => [view.x + (left - view.width / 2) / view.scale, view.y - (top - view.height / 2) / view.scale]
const placed = i => [X(map().at[2 * i]), Y(map().at[2 * i + 1])]

// the whole map: all but the few farthest points, with room for the legend above
function fit() {
  const at = map().at, reach = axis => {
    const values = map().centres.map(centre => centre[axis])
    for (let i = axis; i < at.length; i += 2) values.push(at[i])
    values.sort((a, b) => a - b)
    const low = values[Math.floor(values.length * 0.004)], high = values[Math.ceil(values.length * 0.996) - 1]
    return [low, high]
  }
  const [left, right] = reach(0), [low, high] = reach(1), top = 34
  view.scale = Math.min((view.width - 40) / (right - left || 1), (view.height - top - 30) / (high - low || 1))
  view.x = (left + right) / 2
  view.y = (low + high) / 2 + top / 2 / view.scale
}

function zoom(times, left = view.width / 2, top = view.height / 2) {
  const [x, y] = dataAt(left, top)
  view.scale *= times
  view.x = x - (left - view.width / 2) / view.scale
  view.y = y + (top - view.height / 2) / view.scale
  paint()
}

function pan(across, down) {
  view.x -= across / view.scale
  view.y += down / view.scale
  paint()
}

function resize() {
  const { clientWidth: width, clientHeight: height } = frame, sharp = devicePixelRatio || 1
  if (!width || !height) return
  const first = !view.width
  Object.assign(view, { width, height })
  canvas.width = width * sharp
  canvas.height = height * sharp
  canvas.getContext('2d').setTransform(sharp, 0, 0, sharp, 0, 0)
  if (state.data?.maps) { if (first) fit(); repaint() }
}
