// The panel of the job, and the queue: takes the server's HTML over part by part, so that focus, folds and the pointer's place
// stay; reads values off the curves and the map; passes on what the buttons inside ask. `element`, `props` and `watch` are gr.HTML's.
const root = element.querySelector('.live-root')

const draw = html => {
  const fresh = root.cloneNode(false)
  fresh.innerHTML = html || ''
  monju.morph(root, fresh)
  if (shown) show(shown.field, shown.step)
}

// ---- values: a line at a step, and what every model has there

const tip = document.createElement('div'), cross = document.createElement('i')
tip.className = 'curve-tip'
cross.className = 'cross'
tip.setAttribute('role', 'status')
tip.hidden = cross.hidden = true
element.append(tip, cross)
let shown = null

const lines = field => [...field.querySelectorAll('[data-model]')].map(line => ({
  name: line.dataset.model, at: line.dataset.at.split(' ').map(Number), values: line.dataset.values.split(' ') }))

const place = (node, x, y) => {
  const around = element.getBoundingClientRect()
  node.style.left = `${x - around.left}px`
  node.style.top = `${y - around.top}px`
}

function show(field, wanted) {
  if (!field.isConnected) return hide()
  const all = lines(field), at = [...new Set(all.flatMap(line => line.at))].sort((a, b) => a - b)
  if (!at.length) return hide()
  wanted = Math.min(wanted, at.at(-1))
  const step = at.reduce((best, one) => Math.abs(one - wanted) < Math.abs(best - wanted) ? one : best)
  const rows = all.filter(line => line.at[0] <= step)
    .map(line => ({ name: line.name, value: line.values[line.at.findLastIndex(one => one <= step)], ended: line.at.at(-1) < step }))
    .filter(row => !row.ended).sort((a, b) => b.value - a.value)
  shown = { field, step, at }
  const box = field.getBoundingClientRect(), steps = Number(field.closest('.chart').dataset.steps)
  const x = box.left + box.width * step / steps
  const head = document.createElement('b')
  head.textContent = `${root.querySelector('.axis').textContent.trim().split(' ')[0]} ${step.toLocaleString('en')}`
  tip.replaceChildren(head, ...rows.map(row => {
    const line = document.createElement('span'), value = document.createElement('em')
    line.textContent = `${row.name} `
    value.textContent = row.value
    line.append(value)
    return line
  }))
  tip.hidden = cross.hidden = false
  cross.style.height = `${box.height}px`
  place(cross, x, box.top)
  place(tip, Math.min(x + 12, window.innerWidth - tip.offsetWidth - 12), box.top + 8)
}

function tell(point) {
  shown = null
  cross.hidden = true
  const text = document.createElement('span'), told = document.createElement('em'), box = point.getBoundingClientRect()
  text.textContent = point.dataset.text
  told.textContent = point.dataset.told
  tip.replaceChildren(text, told)
  tip.hidden = false
  place(tip, Math.max(8, Math.min(box.left - tip.offsetWidth / 2, window.innerWidth - tip.offsetWidth - 12)), box.bottom + 8)
}

function hide() { shown = null; tip.hidden = cross.hidden = true }

const pointed = event => {
  const field = event.target.closest?.('.field'), point = event.target.closest?.('[data-text]')
  if (point) return tell(point)
  if (!field) return event.target.closest?.('.curve-tip') || hide()
  const box = field.getBoundingClientRect()
  show(field, (event.clientX - box.left) / box.width * Number(field.closest('.chart').dataset.steps))
}
root.addEventListener('pointermove', pointed)
root.addEventListener('pointerdown', pointed)
root.addEventListener('pointerleave', event => { if (event.pointerType === 'mouse') hide() })
root.addEventListener('focusout', hide)
root.addEventListener('focusin', event => {
  const field = event.target.closest('.field')
  if (field && field.matches(':focus-visible')) show(field, Infinity)
})
root.addEventListener('keydown', event => {
  const field = event.target.closest('.field'), by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key]
  if (event.key === 'Escape') return hide()
  if (!field || !by) return
  event.preventDefault()
  if (!shown) return show(field, Infinity)
  const now = shown.at.indexOf(shown.step), next = Math.max(0, Math.min(shown.at.length - 1, now + by))
  show(field, shown.at[next])
})

// ---- what the buttons inside ask

root.addEventListener('click', event => {
  const button = event.target.closest('button')
  if (button) window.monjuAsk?.training?.({ ...button.dataset, time: Date.now() })
})

// ---- the moment after Start

if (element.closest('#job') || element.id === 'job') {
  const runs = () => root.querySelector('[data-status=training], [data-status=stopping]')
  const smooth = () => ({ behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth', block: 'start' })
  let waited = false
  window.monjuTraining = {
    starting() {
      if ((waited = Boolean(runs()))) return
      const said = root.querySelector('.starting')?.textContent ?? ''
      draw(`<div class="monju"><div class="card job training"><div class="whole"><div role="status"><h3 data-status="starting"></h3></div></div><span class="track busy"></span></div><p class="starting" hidden></p></div>`)
      root.querySelector('h3').textContent = root.querySelector('.starting').textContent = said
      element.scrollIntoView(smooth())
    },
    answered() {
      const refused = document.querySelector('#start-told [role=alert]')
      if (refused) refused.scrollIntoView({ ...smooth(), block: 'center' })
      else if (waited) document.getElementById('queue')?.scrollIntoView({ ...smooth(), block: 'center' })
    },
  }
}

// Gradio names its place for files otherwise than what is written on it
if (element.id === 'job' || element.closest('#job')) {
  const named = () => document.querySelectorAll('#upload button[aria-label]').forEach(button => button.removeAttribute('aria-label'))
  new MutationObserver(named).observe(document.getElementById('training') ?? document.body, { childList: true, subtree: true })
  named()
}

watch('value', () => draw(props.value))
draw(props.value)
