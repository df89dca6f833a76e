-- Suggestions as grey text at the cursor, on every Neovim since 0.7.
--
-- Owns: when to ask, what of the answer is on the screen, accepting it. The server owns the rest,
-- waiting for pauses in typing included. A suggestion is kept with the place where it begins: while
-- the user types just that text, less of it is shown and nothing is asked. Neovim 0.12 has inline
-- completion of its own, which cannot ask for alternatives and always waits 200 ms; it stays off.

local client_of = require('qcoder.client')

local M = {}

local DELAY_MS = 20 -- only joins the keys of a paste; the server knows the pauses of typing
local INVOKED, AUTOMATIC = 1, 2 -- the protocol's trigger kinds

local namespace = vim.api.nvim_create_namespace('qcoder.ghost')
local can_shift = vim.fn.has('nvim-0.10') == 1 -- virtual text may push what follows to the right

---@class qcoder.Place a cursor: 0-based row, byte column
---@field bufnr integer
---@field tick integer
---@field row integer
---@field col integer
---@field line string

---@class qcoder.Item
---@field bufnr integer
---@field row integer      where its text begins
---@field head string      what stands before it in that row
---@field tail string      what stood behind the cursor
---@field covered integer  bytes of `tail` that it replaces
---@field text string
---@field command? table   for the server, once all of it is accepted
---@field client vim.lsp.Client

local shown ---@type { items: qcoder.Item[], index: integer }?
local asked ---@type { client: vim.lsp.Client, id: integer }? the request that waits for its answer
local latest ---@type qcoder.Place? where `refresh` was last
local unanswered ---@type qcoder.Place? where the server could not answer yet
local drawn ---@type integer? the buffer with grey text
local turn = 0 -- raised by whatever makes answers and plans of before obsolete

---@return qcoder.Place? nil outside of insert mode
local function place()
  if vim.api.nvim_get_mode().mode:sub(1, 1) ~= 'i' then
    return nil
  end
  local cursor = vim.api.nvim_win_get_cursor(0)
  local bufnr = vim.api.nvim_get_current_buf()
  return {
    bufnr = bufnr,
    tick = vim.api.nvim_buf_get_changedtick(bufnr),
    row = cursor[1] - 1,
    col = cursor[2],
    line = vim.api.nvim_get_current_line(),
  }
end

local function is_same(a, b)
  return a and b and a.bufnr == b.bufnr and a.tick == b.tick and a.row == b.row and a.col == b.col
end

local function lines_of(text) return vim.split(text, '\n', { plain = true }) end

--- What of an item is still to come at a place; nil when the text there leads elsewhere.
---@param item qcoder.Item
---@param here qcoder.Place
---@return string?
local function remaining(item, here)
  local rows = here.row - item.row
  if here.bufnr ~= item.bufnr or rows < 0 or rows >= #lines_of(item.text) then
    return nil
  end
  local before = vim.api.nvim_buf_get_text(here.bufnr, item.row, 0, here.row, here.col, {})
  local written = table.concat(before, '\n')
  local wanted = item.head .. item.text
  local continues = #written >= #item.head and vim.startswith(wanted, written) and here.line:sub(here.col + 1) == item.tail
  return continues and #written < #wanted and wanted:sub(#written + 1) or nil
end

local function clear()
  if drawn and vim.api.nvim_buf_is_valid(drawn) then
    vim.api.nvim_buf_clear_namespace(drawn, namespace, 0, -1)
  end
  drawn = nil
end

--- Draw what remains of an item. Where its text would not simply push the rest of the line to the
--- right, that rest is painted over and shown again where it will stand.
local function draw(item, here, text, hint)
  local tabs = (' '):rep(vim.bo[here.bufnr].tabstop)
  local lines = {}
  for _, line in ipairs(lines_of(text)) do
    lines[#lines + 1] = { { (line:gsub('\t', tabs)), 'QcoderGhost' } }
  end
  local shifts = can_shift and item.covered == 0 and (#lines == 1 or item.tail == '')
  if not shifts and item.tail ~= '' then
    table.insert(lines[#lines], { item.tail:sub(item.covered + 1), 'Normal' })
    local hidden = vim.fn.strdisplaywidth(item.tail) - vim.fn.strdisplaywidth(lines[1][1][1])
    if hidden > 0 then
      table.insert(lines[1], { (' '):rep(hidden), 'Normal' })
    end
  end
  if hint then
    table.insert(lines[#lines], { hint, 'QcoderGhostHint' })
  end
  drawn = here.bufnr
  vim.api.nvim_buf_set_extmark(drawn, namespace, here.row, here.col, {
    virt_text = lines[1],
    virt_text_pos = shifts and 'inline' or 'overlay',
    virt_lines = #lines > 1 and vim.list_slice(lines, 2) or nil,
    hl_mode = 'combine',
  })
end

--- Show the chosen suggestion, or the next that continues the text at a place.
---@return boolean shown
local function render(here)
  clear()
  if not shown then
    return false
  end
  local count = #shown.items
  for step = 0, count - 1 do
    local index = (shown.index - 1 + step) % count + 1
    local text = remaining(shown.items[index], here)
    if text then
      shown.index = index
      draw(shown.items[index], here, text, count > 1 and ('  %d/%d'):format(index, count) or nil)
      return true
    end
  end
  shown = nil
  return false
end

--- An answer's item at the place that it was asked for; nil for what cannot be shown there.
---@return qcoder.Item?
local function item_of(raw, here, client)
  local encoding = client.offset_encoding
  local start, covered = here.col, 0
  if raw.range then
    start = client_of.byte_at(here.line, raw.range.start.character, encoding)
    covered = client_of.byte_at(here.line, raw.range['end'].character, encoding) - here.col
    local in_row = raw.range.start.line == here.row and raw.range['end'].line == here.row
    if not in_row or start > here.col or covered < 0 then
      return nil
    end
  end
  if type(raw.insertText) ~= 'string' then
    return nil -- a snippet, which this server never sends
  end
  local item = {
    bufnr = here.bufnr,
    row = here.row,
    head = here.line:sub(1, start),
    tail = here.line:sub(here.col + 1),
    covered = covered,
    text = raw.insertText:gsub('\r\n?', '\n'),
    command = type(raw.command) == 'table' and raw.command or nil,
    client = client,
  }
  return remaining(item, here) and item or nil
end

local function cancel()
  turn = turn + 1
  if asked then
    client_of.cancel(asked.client, asked.id)
    asked = nil
  end
end

--- Ask for suggestions at the cursor.
---@param kind integer what made us ask
---@param index integer which of them to show first; -1 for the last
local function ask(kind, index)
  local here = place()
  local client = here and client_of.all(here.bufnr)[1]
  if not here or not client or not client.server_capabilities.inlineCompletionProvider then
    return
  end
  turn = turn + 1
  local mine, before = turn, asked
  asked = nil
  local id = client_of.request(client, 'textDocument/inlineCompletion', {
    textDocument = { uri = vim.uri_from_bufnr(here.bufnr) },
    position = {
      line = here.row,
      character = client_of.character_at(here.line, here.col, client.offset_encoding),
    },
    context = { triggerKind = kind },
  }, function(err, result)
    if asked and mine == turn then
      asked = nil
    end
    local is_current = mine == turn and is_same(here, place()) and vim.fn.pumvisible() == 0
    if not is_current then
      return
    elseif err or type(result) ~= 'table' then
      unanswered = here
      return
    end
    local items = {}
    for _, raw in ipairs(result.items or result) do
      items[#items + 1] = item_of(raw, here, client)
    end
    shown = #items > 0 and { items = items, index = index < 0 and #items or math.min(index, #items) } or nil
    render(here)
  end, here.bufnr)
  asked = id and { client = client, id = id }
  -- Only now: the request has brought the server the edits, and it keeps a generation that still fits.
  if before then
    client_of.cancel(before.client, before.id)
  end
end

--- See what the user did: keep the suggestion that they type out, drop another, ask for a new one.
function M.refresh()
  local here = place()
  if not here then
    return M.dismiss()
  elseif vim.fn.pumvisible() == 1 then
    turn, latest = turn + 1, nil
    return clear()
  elseif is_same(here, latest) then
    return
  end
  latest = here
  turn = turn + 1
  if render(here) then
    return
  end
  local mine = turn
  vim.defer_fn(function()
    if mine == turn then
      ask(AUTOMATIC, 1)
    end
  end, DELAY_MS)
end

--- Take the suggestion away; an answer that is under way comes to nothing.
function M.dismiss()
  cancel()
  shown, latest = nil, nil
  clear()
end

---@return qcoder.Item? item
---@return string? text what of it is on the screen
---@return qcoder.Place? here
local function current()
  local here = place()
  local item = here and shown and shown.items[shown.index]
  return item, item and remaining(item, here) or nil, here
end

local function insert(measure)
  local item, text, here = current()
  if not item or not text then
    return
  end
  local bytes = measure and measure(text) or #text
  local is_all = bytes >= #text
  local lines = lines_of(text:sub(1, bytes))
  vim.cmd('let &g:undolevels = &g:undolevels') -- undo takes back what was accepted, not what was typed
  local stop = here.col + (is_all and item.covered or 0)
  vim.api.nvim_buf_set_text(here.bufnr, here.row, here.col, here.row, stop, lines)
  vim.api.nvim_win_set_cursor(0, { here.row + #lines, (#lines == 1 and here.col or 0) + #lines[#lines] })
  if is_all then
    shown = nil
    if item.command then
      client_of.execute(item.client, item.command.command, item.command.arguments, here.bufnr)
    end
  end
  M.refresh()
end

--- Accept the suggestion, or as many bytes of it as `measure` says.
---@param measure? fun(text: string): integer
---@return boolean accepted false when none is on the screen
function M.accept(measure)
  if not M.is_visible() then
    return false
  end
  vim.schedule(function() insert(measure) end) -- mappings that are expressions must not change text
  return true
end

--- Whether a suggestion is on the screen.
---@return boolean
function M.is_visible()
  local _, text = current()
  return text ~= nil and drawn ~= nil
end

--- Show another suggestion, asking for alternatives when there is one or none.
---@param step integer 1 for the next, -1 for the one before
function M.select(step)
  local _, text, here = current()
  if not text then
    ask(INVOKED, 1)
  elseif #shown.items > 1 then
    shown.index = (shown.index - 1 + step) % #shown.items + 1
    render(here)
  else
    ask(INVOKED, step > 0 and 2 or -1)
  end
end

--- Bytes up to the end of the next word, the spaces before it included.
function M.word_bytes(text)
  local _, last = text:find('^%s*[%w_\128-\255]+')
  if not last then
    _, last = text:find('^%s*[^%w_%s\128-\255]+')
  end
  return last or #text
end

--- Bytes of the first line; of the line break and the second line when the first is empty.
function M.line_bytes(text)
  local stop = text:find('\n', 2, true)
  return stop and stop - 1 or #text
end

--- Ask once more when the server has become able to answer.
local function on_status()
  if client_of.status.kind == 'Normal' and is_same(unanswered, place()) then
    unanswered = nil
    ask(AUTOMATIC, 1)
  end
end

local function define_highlights()
  vim.cmd('highlight default link QcoderGhost Comment')
  vim.cmd('highlight default link QcoderGhostHint NonText')
end

--- Follow what the user does in a buffer.
function M.attach(client, bufnr)
  if vim.lsp.inline_completion then
    vim.lsp.inline_completion.enable(false, { client_id = client.id })
  end
  local group = vim.api.nvim_create_augroup('qcoder.ghost', { clear = false })
  vim.api.nvim_clear_autocmds({ group = group, buffer = bufnr })
  local function on(events, act)
    vim.api.nvim_create_autocmd(events, { group = group, buffer = bufnr, callback = act })
  end
  on({ 'TextChangedI', 'TextChangedP', 'CursorMovedI' }, M.refresh)
  on({ 'InsertEnter', 'CompleteDone' }, function() vim.schedule(M.refresh) end)
  on({ 'InsertLeave', 'BufLeave' }, M.dismiss)
  if bufnr == vim.api.nvim_get_current_buf() then
    vim.schedule(M.refresh) -- somebody may be typing already
  end
end

define_highlights()
local group = vim.api.nvim_create_augroup('qcoder.ghost', {})
vim.api.nvim_create_autocmd('ColorScheme', { group = group, callback = define_highlights })
vim.api.nvim_create_autocmd('User', { group = group, pattern = 'QcoderStatus', callback = on_status })

return M
