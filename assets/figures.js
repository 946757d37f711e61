// Draws figures of the results with the installed plotly.js, whose address is PLOTLY; the value is monju/ui/components/plots.py's.
// A figure is drawn in light colours; on a dark ground each is exchanged for its darker partner. What is saved is light.
const COLOUR = /#[0-9a-f]{6}/g
const NARROW = 420, SHRINK = 0.74  // pixels under which a figure's letters shrink, and how far
const QUALITY = 2  // a saved PNG's pixels for each of the figure's
const dark = () => !!document.querySelector('.dark')
const shown = new Map()  // name → {plot, figure}
const home = element.querySelector('.figures'), fold = element.querySelector('details')

const plotly = () => window.monjuPlotly ??= new Promise((done, failed) => {
  const script = document.createElement('script')
  Object.assign(script, {src: PLOTLY, onload: () => done(window.Plotly), onerror: failed})
  document.head.append(script)
})

function repainted(figure, darker) {
  return dark() ? JSON.parse(JSON.stringify(figure).replace(COLOUR, colour => darker[colour] ?? colour)) : figure
}

function fit(plot) {
  if (plot.clientWidth && plot.classList.contains('js-plotly-plot')) Plotly.Plots.resize(plot)
}

function save(format, run, {name, title, figure}, plot) {
  const layout = {...figure.layout, paper_bgcolor: '#ffffff', plot_bgcolor: '#ffffff', title: {text: title, x: 0.01, font: {size: 18}},
    margin: {...figure.layout.margin, t: (figure.layout.margin?.t ?? 10) + 46}}
  const size = {width: Math.max(plot.clientWidth, 480), height: figure.layout.height + 46}
  return Plotly.downloadImage({data: figure.data, layout}, {format, ...size, scale: format == 'png' ? QUALITY : 1,
    filename: `monju-${run}-${name}`})
}

function frame(one, run) {
  const box = document.createElement('figure')
  box.className = 'card'
  box.dataset.figure = one.name
  const head = document.createElement('header'), title = document.createElement('h3'), plot = document.createElement('div')
  const note = document.createElement('figcaption')
  title.innerHTML = one.title  // worded by the page, its values escaped there
  note.innerHTML = one.note
  plot.setAttribute('role', 'img')
  plot.setAttribute('aria-label', title.textContent)
  plot.style.minHeight = `${one.figure.layout.height}px`
  head.append(title)
  for (const format of ['png', 'svg']) {
    const button = document.createElement('button')
    button.type = 'button'
    button.textContent = format.toUpperCase()
    button.dataset.format = format
    button.ariaLabel = button.title = one.save[format]
    button.onclick = () => save(format, run, {...one, title: title.textContent}, plot)
    head.append(button)
  }
  box.append(head, plot, note)
  return [box, plot]
}

async function draw() {
  for (const {plot} of shown.values()) { widths.unobserve(plot); window.Plotly?.purge(plot) }
  shown.clear()
  home.replaceChildren()
  if (fold) fold.hidden = !props.value
  if (!props.value) return
  const {darker, run, figures, title} = JSON.parse(props.value)
  if (fold) {
    fold.querySelector('summary').textContent = title
    if (!fold.open) return
  }
  const value = props.value
  await plotly()
  if (value !== props.value || shown.size) return  // another came meanwhile
  for (const one of figures) {
    const [box, plot] = frame(one, run)
    home.append(box)
    shown.set(one.name, {plot, one, darker})
    paint(shown.get(one.name))
    widths.observe(plot)
  }
}

function sized(part) {
  for (const [name, value] of Object.entries(part ?? {})) {
    if (/font$/.test(name) && value?.size) value.size = Math.round(value.size * SHRINK)
    else if (value && typeof value == 'object') sized(value)
  }
  return part
}

function paint({plot, one, darker}) {
  const {data, layout} = repainted(structuredClone(one.figure), darker)
  if (plot.clientWidth < NARROW) {
    [data, layout].forEach(sized)
    if (layout.margin) layout.margin.r *= SHRINK
  }
  Plotly.react(plot, data, layout, {displayModeBar: false})
}

const widths = new ResizeObserver(changes => changes.forEach(({target}) => fit(target)))
new MutationObserver(() => shown.forEach(paint)).observe(document.body, {attributes: true, attributeFilter: ['class']})
fold?.addEventListener('toggle', () => { if (fold.open && !shown.size) draw() })
watch('value', draw)
draw()
