// Takes over the server's HTML part by part, so that what changes moves instead of jumping, and lights where the number
// under the pointer or the focus comes from and what it feeds.
const root = element.querySelector('.flow-root')

// Gradio's own components are named for whoever looks for them; they come and go as they like
const PARTS = { '#sentence': 'sentence', '#sharpness': 'sharpness', '#gate': 'gate', '#examples .chip': 'case' }
const name = () => {
  for (const [selector, part] of Object.entries(PARTS)) document.querySelectorAll(selector).forEach(node => { node.dataset.part = part })
}
if (element.id === 'panel' || element.closest('#panel')) new MutationObserver(name).observe(document.body, { childList: true, subtree: true })

const draw = html => {
  const fresh = root.cloneNode(false)
  fresh.innerHTML = html || ''
  monju.morph(root, fresh)
}

// d_A feeds every α, α and p feed Monju: a number lights itself, what it comes from, and what comes from it
const kind = n => n.split('_')[0]
const light = target => {
  const one = target?.closest?.('[data-n]')
  const line = root.querySelector('.arithmetic')
  root.querySelectorAll('.lit').forEach(node => node.classList.remove('lit'))
  if (!line) return
  line.textContent = one?.dataset.say || line.dataset.hint
  if (!one) return
  const from = (one.dataset.from || '').split(' ')
  for (const node of root.querySelectorAll('[data-n]')) {
    const feeds = (node.dataset.from || '').split(' ').includes(kind(one.dataset.n))
    if (node.dataset.n === one.dataset.n || feeds || from.includes(kind(node.dataset.n))) node.classList.add('lit')
  }
}
root.addEventListener('mouseover', event => light(event.target))
root.addEventListener('mouseleave', () => light(null))
root.addEventListener('focusin', event => light(event.target))
root.addEventListener('focusout', () => light(null))

watch('value', () => draw(props.value))
draw(props.value)
