// A text while it is written: takes over the lines that are added (monju/ui/components/writing.py says what they hold), and
// shows for the token under the pointer or the focus who would have written it. Runs as a gr.HTML's js_on_load.
const root = element.querySelector('.writer')
const node = (kind, name, ...parts) => { const made = document.createElement(kind); if (name) made.className = name; made.append(...parts); return made }
const svg = text => { const made = node('div'); made.innerHTML = text; return made.firstChild }
const share = value => value == null ? '' : `${(100 * value).toFixed(1)} %`
const escaped = text => text.replace(/[&<>"]/g, letter => `&#${letter.charCodeAt(0)};`)
let say = {}, seen = '', head, tokens, parts

// an expert is a split of its clusters' colours; a baseline's model has none
const hues = voice => voice.clusters.length ? voice.clusters.map(c => `var(--cluster-${c % 3})`) : ['var(--faint)']
const split = voice => { const all = hues(voice); return `linear-gradient(90deg, ${all.map((hue, i) => `${hue} ${100 * i / all.length}% ${100 * (i + 1) / all.length}%`).join(', ')})` }

function begin(first) {
  head = first
  tokens = { monju: [], baseline: [] }
  parts = {}
  const texts = node('div', 'texts')
  for (const stream of Object.keys(first.voices)) {
    const text = node('p', 'text', node('span', 'given', first.prompt))
    text.dir = 'auto'
    const card = node('article', 'card', node('h2', '', first.say[`w_${stream}`]), text)
    card.dataset.stream = stream
    if (stream === 'monju') card.append(legend(first.voices[stream]))
    parts[stream] = text
    texts.append(card)
  }
  parts.status = node('p', 'status', first.say.w_writing)
  parts.status.role = 'status'
  parts.token = node('div', 'card token', node('p', 'faint', first.say.w_token))
  parts.path = node('div', 'card path')
  parts.walk = node('div', 'card walk')
  const notes = first.notes.length ? [node('ul', 'unread', ...first.notes.map(note => node('li', '', plain(note))))] : []
  root.replaceChildren(...notes, texts, parts.status, node('div', 'beside', parts.token, parts.path, parts.walk))
  drawPath()
  drawWalk()
}

const plain = html => new DOMParser().parseFromString(html, 'text/html').body.textContent
const legend = voices => {
  const list = node('p', 'legend')
  for (const voice of voices) { const mark = node('i'); mark.style.background = split(voice); list.append(node('span', '', mark, voice.name)) }
  return list
}

function add(told) {
  if (told.ended) {
    parts[told.stream].dataset.ended = told.ended
    if (Object.keys(head.voices).every(stream => parts[stream].dataset.ended)) parts.status.textContent = head.say[`w_ended_${parts.monju.dataset.ended}`] ?? ''
    return
  }
  const all = tokens[told.stream], shown = node('span', 'tok', told.text)
  shown.dataset.stream = told.stream
  shown.dataset.index = all.length
  shown.tabIndex = all.length || told.stream === 'baseline' ? -1 : 0
  if (told.stream === 'monju') shown.style.setProperty('--voice', split(head.voices.monju[told.loudest]))
  all.push(told)
  parts[told.stream].append(shown)
  if (told.stream === 'monju') { drawPath(); if (told.at) drawWalk() }
}

function show(target) {
  const shown = target?.closest?.('.tok')
  if (!shown) return
  root.querySelectorAll('.tok.lit').forEach(other => other.classList.remove('lit'))
  shown.classList.add('lit')
  const stream = shown.dataset.stream, at = Number(shown.dataset.index), told = tokens[stream][at], voices = head.voices[stream]
  const row = (name, ...cells) => { const made = node('tr', '', Object.assign(node('th', '', ...name), { scope: 'row' })); cells.forEach(cell => made.append(node('td', '', cell))); return made }
  const mark = voice => { const made = node('i'); made.style.background = split(voice); return made }
  const title = node('tr', '', ...['', head.say.w_alpha, head.say.w_by, head.say.w_share].map(word => Object.assign(node('th', '', word), { scope: 'col' })))
  const table = node('table', 'scores', node('thead', '', title), node('tbody', '', ...voices.map((voice, i) =>
    row([mark(voice), voice.name], told.alpha[i].toFixed(3), told.by[i] == null ? head.say.w_not_asked : share(told.by[i]), share(told.share[i]))),
    row([head.say.w_mixed], '', share(told.p), '')))
  const others = node('p', 'others', head.say.w_others, ': ', ...told.others.flatMap(([text, p]) => [node('b', '', text.trim() || '␣'), ` ${share(p)}  `]))
  parts.token.replaceChildren(node('h2', '', `“${told.text.trim() || '␣'}” · ${stream === 'monju' ? 'Monju' : head.say.w_baseline.split(/[:：]/)[0]}`), table, others)
  drawPath(stream === 'monju' ? at : null)
  drawWalk(stream === 'monju' ? at : null)
}

// α of each expert, one above the other, over the tokens
function drawPath(at = null) {
  const voices = head.voices.monju, all = tokens.monju, width = 360, height = 96, n = Math.max(all.length, 2)
  let below = all.map(() => 0)
  const x = i => (i * width / n).toFixed(1), y = value => (height * (1 - value)).toFixed(1)
  const band = (low, high, hue, name) => `<polygon points="${[...high.map((value, i) => `${x(i)},${y(value)} ${x(i + 1)},${y(value)}`),
    ...low.map((value, i) => `${x(i + 1)},${y(value)} ${x(i)},${y(value)}`).reverse()].join(' ')}" style="fill:${hue}"><title>${escaped(name)}</title></polygon>`
  const bands = voices.map((voice, v) => {
    const hue = hues(voice), from = below, at = part => all.map((told, i) => from[i] + part * told.alpha[v] / hue.length)
    below = at(hue.length)
    const edge = `<polyline class="edge" points="${below.map((value, i) => `${x(i)},${y(value)} ${x(i + 1)},${y(value)}`).join(' ')}"/>`
    return hue.map((colour, i) => band(at(i), at(i + 1), colour, voice.name)).join('') + edge
  })
  const mark = at == null ? '' : `<line class="now" x1="${(at + 0.5) * width / n}" x2="${(at + 0.5) * width / n}" y1="0" y2="${height}"/>`
  parts.path.replaceChildren(node('h2', '', head.say.w_path), svg(`<svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img" aria-label="${escaped(head.say.w_path)}">${bands.join('')}${mark}</svg>`), legend(voices))
}

// the prefix among the clusters: where it was each time α was worked out
function drawWalk(at = null) {
  const { width, height, centres } = head.map
  const steps = [head.at, ...tokens.monju.filter((told, i) => at == null || i <= at).map(told => told.at)].filter(Boolean)
  const last = steps.at(-1)
  parts.walk.replaceChildren(node('h2', '', head.say.w_walk), svg(`<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(head.say.w_walk)}">
    <polyline class="way" points="${steps.map(step => step.join(',')).join(' ')}"/>
    ${centres.map(([name, x, y], c) => `<g class="centre cluster-${c % 3}" transform="translate(${x},${y})"><circle r="13"/><text y="5">${escaped(name)}</text></g>`).join('')}
    ${steps.map(([x, y]) => `<circle class="step" r="2.5" cx="${x}" cy="${y}"/>`).join('')}${last ? `<circle class="here" r="7" cx="${last[0]}" cy="${last[1]}"/>` : ''}</svg>`))
}

root.addEventListener('mouseover', event => show(event.target))
root.addEventListener('focusin', event => show(event.target))
root.addEventListener('click', event => show(event.target))
root.addEventListener('keydown', event => {
  const shown = event.target.closest?.('.tok'), step = { ArrowRight: 1, ArrowLeft: -1 }[event.key]
  const next = shown && step && parts[shown.dataset.stream].querySelector(`[data-index="${Number(shown.dataset.index) + step}"]`)
  if (!next) return
  shown.tabIndex = -1
  next.tabIndex = 0
  next.focus()
  event.preventDefault()
})
const wait = words => root.replaceChildren(Object.assign(node('p', 'status', words), { role: 'status' }))
root.addEventListener('begin', () => { seen = ''; wait(say.w_waiting ?? '') })
root.addEventListener('halt', () => { if (parts?.status?.isConnected && !parts.monju.dataset.ended) parts.status.textContent = say.w_stopped ?? '' })

function take() {
  const text = props.value || ''
  if (!text.startsWith(seen)) seen = ''
  const fresh = text.slice(seen.length).split('\n').filter(Boolean).map(line => JSON.parse(line))
  seen = text
  for (const told of fresh) {
    if (told.trouble) root.replaceChildren(Object.assign(node('p', 'note', plain(told.trouble)), { role: 'status' }))
    else if (told.status) wait(told.status)
    else if (told.voices) { say = { ...say, ...told.say }; begin(told) }
    else if (told.say) { say = { ...say, ...told.say }; root.replaceChildren() }
    else add(told)
  }
}
watch('value', take)
take()
