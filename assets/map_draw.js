// Paints the map: shades, density and points on the canvas; borders, names and the sentence's lines above it.
const ink = name => getComputedStyle(root).getPropertyValue(name).trim()
const HUES = 7, LABELS = 7 // in the style sheets
const SHAPES = [ // of each group, so that no meaning hangs on the colour alone
  (path, x, y, r) => { path.moveTo(x + r, y); path.arc(x, y, r, 0, 7) },
  (path, x, y, r) => { r *= 1.25; path.moveTo(x, y - r); path.lineTo(x + r, y); path.lineTo(x, y + r); path.lineTo(x - r, y); path.closePath() },
  (path, x, y, r) => path.rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r),
  (path, x, y, r) => { r *= 1.3; path.moveTo(x, y - r); path.lineTo(x + r, y + 0.8 * r); path.lineTo(x - r, y + 0.8 * r); path.closePath() },
]

// right or alike is grey; wrong or different is one strong colour, larger and on top
function looks(group) {
  const verdict = state.colour === 'correct' || state.colour === 'differ'
  if (verdict) return group ? { color: ink('--other'), radius: 4.5, shape: SHAPES[1], opacity: 1 } : { color: ink('--faint'), radius: 2.5, shape: SHAPES[0], opacity: 0.35 }
  const color = state.colour === 'label' ? ink(`--label-${group % LABELS}`) : ink(`--cluster-${group % HUES}`)
  return { color, radius: state.data.n > 4000 ? 2.2 : 3, shape: SHAPES[group % SHAPES.length], opacity: state.data.n > 4000 ? 0.5 : 0.7 }
}

let asked = 0
const paint = () => { asked ||= requestAnimationFrame(repaint) }

function repaint() {
  asked = 0
  if (!state.data?.maps || !view.width) return
  const brush = canvas.getContext('2d')
  brush.clearRect(0, 0, view.width, view.height)
  if (shows('alpha')) shade(brush)
  if (shows('density')) density(brush)
  if (shows('points')) points(brush)
  rings(brush)
  overlay()
  movePin()
  moveTip()
}

function points(brush) {
  const { of, names } = state.data.groups[state.colour], hits = state.word ? new Set(state.hits) : null
  const order = names.map((_, group) => group)
  for (const lit of hits ? [false, true] : [true]) for (const group of order) {
    const { color, radius, shape, opacity } = looks(group), path = new Path2D()
    for (let i = 0; i < of.length; i++) if (of[i] === group && (!hits || hits.has(i) === lit)) shape(path, ...placed(i), hits && lit ? radius + 1.5 : radius)
    brush.globalAlpha = lit ? (hits ? 1 : opacity) : state.only ? 0.04 : 0.15
    brush.fillStyle = color
    brush.fill(path)
    if (hits && lit) { brush.strokeStyle = ink('--ink'); brush.lineWidth = 1; brush.stroke(path) }
  }
  brush.globalAlpha = 1
}

function rings(brush) {
  for (const [i, width] of [[state.pointed, 2], [state.chosen, 3]]) {
    if (i === null) continue
    brush.beginPath()
    brush.arc(...placed(i), 9, 0, 7)
    brush.strokeStyle = ink('--ink')
    brush.lineWidth = width
    brush.stroke()
  }
}

// a grid of values 0…1, `side` squares a side over [-reach, reach] around (x, y), as a picture in one colour
function picture(brush, values, side, x, y, reach, color, most) {
  const small = new OffscreenCanvas(side, side), pixels = new ImageData(side, side)
  const [r, g, b] = color.match(/\w\w/g).map(part => parseInt(part, 16))
  values.forEach((value, i) => pixels.data.set([r, g, b, 255 * most * value], 4 * ((side - 1 - Math.floor(i / side)) * side + i % side)))
  small.getContext('2d').putImageData(pixels, 0, 0)
  brush.imageSmoothingQuality = 'high'
  brush.drawImage(small, X(x - reach), Y(y + reach), 2 * reach * view.scale, 2 * reach * view.scale)
}

const SIDE = 64
function density(brush) {
  const clusters = state.data.groups.cluster, at = map().at, [x, y, reach] = [view.x, view.y, Math.max(view.width, view.height) / 2 / view.scale]
  clusters.names.forEach((_, cluster) => {
    let grid = new Float32Array(SIDE * SIDE)
    for (let i = 0; i < clusters.of.length; i++) if (clusters.of[i] === cluster) {
      const across = Math.floor((at[2 * i] - x + reach) / (2 * reach) * SIDE), up = Math.floor((at[2 * i + 1] - y + reach) / (2 * reach) * SIDE)
      if (across >= 0 && up >= 0 && across < SIDE && up < SIDE) grid[up * SIDE + across]++
    }
    for (let pass = 0; pass < 4; pass++) grid = grid.map((_, i) => { // near a Gaussian
      const step = pass % 2 ? SIDE : 1
      return ((grid[i - 2 * step] ?? 0) + 2 * (grid[i - step] ?? 0) + 3 * grid[i] + 2 * (grid[i + step] ?? 0) + (grid[i + 2 * step] ?? 0)) / 9
    })
    const most = grid.reduce((a, b) => Math.max(a, b), 1e-9)
    picture(brush, grid.map(value => value / most), SIDE, x, y, reach, ink(`--cluster-${cluster % HUES}`), 0.75)
  })
}

// the largest α over the plane at the sentence's height: the darker, the more one expert dominates; with level lines
function shade(brush) {
  const field = flat() && state.marker.run === state.data.run && state.marker.shade
  if (!field) return
  const { n, reach } = field, alpha = field.values ??= new Float32Array(bytes(field.alpha).buffer)
  let low = 1, high = 0
  for (const value of alpha) { low = Math.min(low, value); high = Math.max(high, value) }
  picture(brush, alpha.map(value => (value - low) / (high - low || 1)), n, 0, 0, reach, ink('--ink'), 0.3)
  const step = [0.1, 0.05, 0.02, 0.01, 0.005].find(step => (high - low) / step >= 4) ?? 0.002, at = i => -reach + 2 * reach * i / (n - 1)
  brush.strokeStyle = ink('--faint')
  brush.globalAlpha = 0.6
  brush.lineWidth = 1
  for (let level = Math.ceil(low / step) * step; level < high; level += step) {
    brush.beginPath()
    for (let j = 0; j < n - 1; j++) for (let i = 0; i < n - 1; i++) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], cut = []
      corners.forEach(([a, b], k) => {
        const [c, d] = corners[(k + 1) % 4], one = alpha[b * n + a], two = alpha[d * n + c]
        if ((one < level) !== (two < level)) { const part = (level - one) / (two - one); cut.push([X(at(a + part * (c - a))), Y(at(b + part * (d - b)))]) }
      })
      for (let k = 0; k + 1 < cut.length; k += 2) { brush.moveTo(...cut[k]); brush.lineTo(...cut[k + 1]) }
    }
    brush.stroke()
  }
  brush.globalAlpha = 1
}

const escaped = text => text.replace(/[&<>]/g, letter => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[letter])

// what stands above the points: of a text's possible places the first is taken where nothing stands yet
function overlay() {
  const taken = [{ left: 0, right: legend.offsetWidth + 12, top: 0, bottom: legend.offsetHeight + 8 }]
  const at = here(), { centres, meeting, rays } = map(), { names, words, leads } = state.data
  let lines = '', shapes = '', letters = ''
  const line = (kind, a, b) => { lines += `<line class="${kind}" x1="${a[0].toFixed(1)}" y1="${a[1].toFixed(1)}" x2="${b[0].toFixed(1)}" y2="${b[1].toFixed(1)}"/>` }
  const seen = ([x, y]) => [X(x), Y(y)]
  const block = ([x, y], half) => taken.push({ left: x - half, right: x + half, top: y - half, bottom: y + half })
  const brush = canvas.getContext('2d')
  const write = (kind, text, size, places) => {
    brush.font = `700 ${size}px system-ui, sans-serif`
    const half = brush.measureText(text).width / 2 + 5
    for (const [x, y] of places) {
      const box = { left: x - half, right: x + half, top: y - size * 0.75, bottom: y + size * 0.75 }
      if (box.left < 2 || box.right > view.width - 2 || box.top < 2 || box.bottom > view.height - 2) continue
      if (taken.some(other => box.left < other.right && box.right > other.left && box.top < other.bottom && box.bottom > other.top)) continue
      taken.push(box)
      letters += `<text class="${kind}" font-size="${size}" x="${x.toFixed(1)}" y="${y.toFixed(1)}" dy=".35em">${escaped(text)}</text>`
      return
    }
  }
  const discs = centres.map(seen), middle = [0, 1].map(i => discs.reduce((sum, disc) => sum + disc[i], 0) / discs.length)
  discs.forEach(disc => block(disc, 16))
  if (at) block(seen(at), 16)
  if (shows('borders') && meeting) {
    const out = (way, far) => seen([meeting[0] + far * way[0], meeting[1] + far * way[1]]), far = 3000 / view.scale
    for (const ray of rays) {
      line('border', seen(meeting), out(ray, far))
      if (leads) line('border lead', seen(meeting), out(ray, -far))
    }
    if (leads) rays.forEach((ray, i) => write('lead', leads[i], 14, [170, 210, 140, 250, 110, 290, 330].map(far => out(ray, far / view.scale))))
  }
  if (at) discs.forEach((disc, c) => {
    line(`string cluster-${c % HUES}`, seen(at), disc)
    const [x, y] = seen(at), parts = [0.55, 0.45, 0.65, 0.35, 0.75, 0.25].map(part => [x + part * (disc[0] - x), y + part * (disc[1] - y)])
    write('length', state.marker.distances[c].toFixed(3), 15, [...parts, [disc[0], disc[1] + 28], [disc[0], disc[1] - 28], [disc[0] + 44, disc[1]], [disc[0] - 44, disc[1]]])
  })
  discs.forEach((disc, c) => {
    shapes += `<g class="cluster-${c % HUES}"><circle class="centre" cx="${disc[0].toFixed(1)}" cy="${disc[1].toFixed(1)}" r="14"/></g>`
    letters += `<text class="name" x="${disc[0].toFixed(1)}" y="${disc[1].toFixed(1)}" dy=".35em">${names[c]}</text>`
    if (!shows('names') || !words[c]?.length) return
    // a region's words stand on its far side, where no border and rarely the marker is
    const way = [disc[0] - middle[0], disc[1] - middle[1]], size = view.width < 500 ? 15 : 20
    const far = [1.9, 1.65, 2.2, 1.45, 2.5].map(times => [middle[0] + times * way[0], middle[1] + times * way[1]])
    const within = ([x, y]) => [x, Math.min(view.height - 16, Math.max(16, y))]
    for (let count = words[c].length; count; count--) {
      const text = words[c].slice(0, count).join(' · '), before = letters
      const half = (brush.font = `700 ${size}px system-ui, sans-serif`, brush.measureText(text).width / 2 + 8)
      write('region', text, size, far.map(([x, y]) => within([Math.min(view.width - half, Math.max(half, x)), y])))
      if (letters !== before) break // else fewer words may find room
    }
  })
  for (const each of state.kept) {
    const place = each.at[state.projection]
    if (!place || each.run !== state.data.run) continue
    const [x, y] = seen(place), text = (each.moved ? `☆ ${state.data.say.map_what_if}: ` : '★ ') + (each.text.length > 28 ? each.text.slice(0, 27) + '…' : each.text)
    write('kept', text, 13, [[x, y], [x, y - 18], [x, y + 18], [x, y - 36], [x, y + 36]])
  }
  over.innerHTML = lines + shapes + letters
}
