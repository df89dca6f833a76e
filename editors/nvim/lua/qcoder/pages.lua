-- What the server tells about itself, as pages to read.

local M = {}

-- Figure, how it is called, unit; as `qcoder stats` prints them.
local FIGURES = {
  { 'days', 'days counted' },
  { 'requests', 'requests' },
  { 'shown', 'suggestions shown' },
  { 'seen', '  for at least a quarter of a second' },
  { 'accepted', 'accepted' },
  { 'partially_accepted', 'accepted in part' },
  { 'typed', 'typed out by hand' },
  { 'rejected', 'rejected' },
  { 'acceptance_rate', 'accepted, of those seen', '%' },
  { 'accepted_characters', 'characters accepted' },
  { 'retained_30_s', 'still there after 30 s', '%' },
  { 'retained_120_s', 'still there after 2 min', '%' },
  { 'retained_600_s', 'still there after 10 min', '%' },
  { 'first_pass_rate', 'unchanged after 2 min', '%' },
  { 'edit_rate', 'of accepted text changed in 30 s', '%' },
  { 'cache_hit_rate', 'requests served without a generation', '%' },
  { 'reused_prompt_rate', 'prompt tokens not computed again', '%' },
  { 'generations_a_shown', 'generations a suggestion shown' },
  { 'tokens_per_second', 'tokens a second' },
  { 'answer_p50_ms', 'time to an answer, median', 'ms' },
  { 'answer_p95_ms', '  19 of 20 within', 'ms' },
  { 'answer_p99_ms', '  99 of 100 within', 'ms' },
}

local function number(value, unit)
  if type(value) ~= 'number' then
    return '-'
  elseif unit == '%' then
    return ('%.0f %%'):format(100 * value)
  end
  return ('%.6g'):format(value) .. (unit and ' ' .. unit or '')
end

--- The figures of `qcoder stats`.
---@return string[]
function M.statistics(figures)
  local lines = { 'qcoder: statistics, counted and kept on this machine', '' }
  for _, row in ipairs(FIGURES) do
    lines[#lines + 1] = ('%-40s %12s'):format(row[2], number(figures[row[1]], row[3]))
  end
  return lines
end

local function rows_of(title, rows)
  return #rows > 0 and vim.list_extend({ '', title }, rows) or {}
end

--- Why the latest request was answered as it was.
---@return string[]
function M.explanation(facts)
  local lines = { 'qcoder: why the latest suggestion came, or none', '' }
  if not facts.uri then
    local status = facts.status or {}
    lines[#lines + 1] = 'Nothing was asked for yet.'
    lines[#lines + 1] = ('The server: %s %s'):format(status.kind or '?', status.message or '')
    return lines
  end
  local function say(label, text) lines[#lines + 1] = ('%-22s %s'):format(label, text) end
  say('where', ('%s, line %d, column %d'):format(vim.uri_to_fname(facts.uri), facts.line + 1, facts.column + 1))
  say('result', ('%s; %d shown'):format(facts.message, facts.shown))
  say('answered by', facts.origin ~= '' and ('%s in %s'):format(facts.origin, number(facts.answer_ms, 'ms')) or 'nothing yet, or a newer request')
  say('confidence', ('%s, at least %s is wanted'):format(number(facts.confidence), number(facts.threshold)))
  say('names not seen before', number(facts.unknown_names))
  say('lines', facts.multiline and 'several' or 'one')
  say('filters', #facts.filters > 0 and table.concat(facts.filters, ', ') or 'none changed it')
  say('tokens', ('%d: %d by the network, %d copied'):format(facts.tokens, facts.sources.model, facts.sources.ngram))
  say('prompt', ('%d tokens, %d of them not computed again'):format(facts.prompt_tokens, facts.reused_tokens))
  say('temperature', number(facts.temperature))
  local segments, times = {}, {}
  for _, segment in ipairs(facts.segments) do
    segments[#segments + 1] = ('  %5d tokens  %s:%d-%d  %s'):format(
      segment.tokens, segment.path, segment.start_line, segment.end_line, segment.reason
    )
  end
  for name, ms in pairs(facts.timings_ms) do
    times[#times + 1] = ('  %-10s %10s'):format(name, number(ms, 'ms'))
  end
  table.sort(times)
  vim.list_extend(lines, rows_of('What the prompt showed of other places:', segments))
  return vim.list_extend(lines, rows_of('Times:', times))
end

--- Show lines in a window of their own; `q` closes it.
---@param name string
---@param lines string[]
function M.open(name, lines)
  local bufnr = vim.fn.bufnr('^' .. name .. '$')
  if bufnr == -1 then
    bufnr = vim.api.nvim_create_buf(false, true)
    vim.api.nvim_buf_set_name(bufnr, name)
    vim.keymap.set('n', 'q', '<Cmd>close<CR>', { buffer = bufnr, desc = 'qcoder: close the page' })
  end
  vim.bo[bufnr].modifiable = true
  vim.api.nvim_buf_set_lines(bufnr, 0, -1, false, lines)
  vim.bo[bufnr].modifiable = false
  local window = vim.fn.bufwinid(bufnr)
  if window == -1 then
    vim.cmd('botright sbuffer ' .. bufnr)
  else
    vim.api.nvim_set_current_win(window)
  end
end

return M
