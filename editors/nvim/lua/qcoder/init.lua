-- qcoder for Neovim: starts the language server and shows what it answers.
--
-- Owns: the client configuration, key maps, the :Qcoder command, the status text. Everything that
-- thinks is in the server; inline completion itself is Neovim's own (vim.lsp.inline_completion,
-- 0.12). On 0.11 the same suggestions appear in the completion menu.

local M = {}

---@class qcoder.Keys
---@field accept string|false        accept the whole suggestion (falls back to the key itself)
---@field accept_word string|false   accept its next word
---@field accept_line string|false   accept its first line
---@field next string|false          next candidate
---@field previous string|false      previous candidate

---@class qcoder.Options
---@field cmd string[]               the server's command line
---@field filetypes string[]
---@field settings table             see docs/settings.md; sent to the server as they are
---@field keys qcoder.Keys

---@type qcoder.Options
local defaults = {
  cmd = { 'qcoder-lsp', '--stdio' },
  filetypes = {
    'python', 'javascript', 'javascriptreact', 'typescript', 'typescriptreact', 'go', 'rust',
    'java', 'c', 'cpp', 'cs', 'ruby', 'php', 'sh', 'bash',
    'kotlin', 'swift', 'scala', 'lua', 'haskell', 'sql',
  },
  settings = {},
  keys = {
    accept = '<Tab>',
    accept_word = '<M-w>',
    accept_line = '<M-l>',
    next = '<M-]>',
    previous = '<M-[>',
  },
}

-- The protocol's language ids, where they are not the filetype.
local language_ids = { cs = 'csharp', sh = 'shellscript', bash = 'shellscript' }

local status = { kind = 'Inactive', message = '' }

---@return vim.lsp.Client?
local function client_of(bufnr)
  return vim.lsp.get_clients({ name = 'qcoder', bufnr = bufnr })[1]
end

--- What the server is doing, for a statusline: '' when there is nothing to say.
---@return string
function M.status()
  if status.kind == 'Normal' or status.kind == 'Inactive' then
    return ''
  end
  return status.message ~= '' and ('qcoder: ' .. status.message) or ('qcoder: ' .. status.kind:lower())
end

--- Accept a part of the suggestion: `measure` says how many of its bytes.
---@param measure fun(text: string): integer
---@return boolean accepted
function M.accept_part(measure)
  return vim.lsp.inline_completion.get({
    on_accept = function(item)
      local text = item.insert_text
      if type(text) ~= 'string' then
        return item
      end
      local bytes = measure(text)
      local range = item.range
      local replaces = range and (range.start_row ~= range.end_row or range.start_col ~= range.end_col)
      if bytes >= #text or replaces then
        return item -- all of it, or a replacement that cannot be cut in two
      end
      item.insert_text = text:sub(1, bytes)
      item.command = nil -- the command says that the whole suggestion was accepted
      return item
    end,
  })
end

--- Bytes up to the end of the next word, the spaces before it included.
function M.word_bytes(text)
  local _, last = text:find('^%s*[%w_]+')
  if not last then
    _, last = text:find('^%s*[^%w_%s]+')
  end
  return last or #text
end

--- Bytes of the first line; of the line break and the second line when the first is empty.
function M.line_bytes(text)
  local stop = text:find('\n', 2, true)
  return stop and stop - 1 or #text
end

---@param keys qcoder.Keys
local function map_keys(bufnr, keys)
  local inline = vim.lsp.inline_completion
  local function map(key, act, description)
    if key then
      vim.keymap.set('i', key, function()
        if not act() then
          return key
        end
      end, { buffer = bufnr, expr = true, replace_keycodes = true, desc = 'qcoder: ' .. description })
    end
  end
  map(keys.accept, function() return inline.get() end, 'accept the suggestion')
  map(keys.accept_word, function() return M.accept_part(M.word_bytes) end, 'accept the next word')
  map(keys.accept_line, function() return M.accept_part(M.line_bytes) end, 'accept the next line')
  local function choose(count)
    return function()
      vim.schedule(function() inline.select({ count = count }) end)
      return true
    end
  end
  map(keys.next, choose(1), 'next suggestion')
  map(keys.previous, choose(-1), 'previous suggestion')
end

---@param options qcoder.Options
local function on_attach(options)
  return function(args)
    local client = vim.lsp.get_client_by_id(args.data.client_id)
    if not client or client.name ~= 'qcoder' then
      return
    end
    if vim.lsp.inline_completion and client:supports_method('textDocument/inlineCompletion', args.buf) then
      vim.lsp.inline_completion.enable(true, { client_id = client.id })
      map_keys(args.buf, options.keys)
    elseif client:supports_method('textDocument/completion', args.buf) then
      vim.lsp.completion.enable(true, client.id, args.buf, { autotrigger = true })
    end
  end
end

---@param command string
local function execute(command)
  local client = client_of(0)
  if not client then
    vim.notify('qcoder: no server for this file (:checkhealth qcoder)', vim.log.levels.WARN)
    return
  end
  client:exec_cmd({ title = command, command = command, arguments = { vim.uri_from_bufnr(0) } }, { bufnr = 0 })
end

--- Runs `act` once all of `clients` have ended.
local function when_stopped(clients, act)
  for _, client in ipairs(clients) do
    if not client:is_stopped() then
      vim.defer_fn(function() when_stopped(clients, act) end, 20)
      return
    end
  end
  act()
end

--- What :Qcoder does.
---@type table<string, fun()>
M.commands = {
  docstring = function()
    vim.lsp.buf.code_action({
      apply = true,
      filter = function(action) return action.title:lower():find('docstring', 1, true) ~= nil end,
    })
  end,
  review = function() execute('qcoder.reviewFile') end,
  restart = function()
    local clients = vim.lsp.get_clients({ name = 'qcoder' })
    vim.lsp.enable('qcoder', false)
    for _, client in ipairs(clients) do
      client:stop()
    end
    when_stopped(clients, function() vim.lsp.enable('qcoder') end)
  end,
  status = function()
    vim.notify(('qcoder: %s %s'):format(status.kind, status.message))
  end,
}

local function create_command()
  vim.api.nvim_create_user_command('Qcoder', function(call)
    M.commands[call.args]()
  end, {
    nargs = 1,
    desc = 'qcoder: docstring, review, restart or status',
    complete = function(lead)
      return vim.tbl_filter(function(name) return vim.startswith(name, lead) end, vim.tbl_keys(M.commands))
    end,
  })
end

--- Start qcoder in the buffers of its filetypes, now and later.
---@param opts? table fields of `qcoder.Options`; missing ones keep their defaults
---@return boolean started false, with a message, where Neovim is older than 0.11
function M.setup(opts)
  if vim.fn.has('nvim-0.11') == 0 then
    vim.notify('qcoder needs Neovim 0.11 or newer (0.12 for inline completion)', vim.log.levels.ERROR)
    return false
  end
  local options = vim.tbl_deep_extend('force', defaults, opts or {})
  if vim.fn.executable(options.cmd[1]) == 0 then
    vim.notify(
      ('qcoder: %s is not executable; install the qcoder Python package or set cmd'):format(options.cmd[1]),
      vim.log.levels.ERROR
    )
    return false
  end
  vim.lsp.config('qcoder', {
    cmd = options.cmd,
    filetypes = options.filetypes,
    root_markers = { '.git', 'qcoder.toml', 'pyproject.toml', 'package.json', 'go.mod', 'Cargo.toml' },
    init_options = next(options.settings) and options.settings or vim.empty_dict(),
    settings = { qcoder = next(options.settings) and options.settings or vim.empty_dict() },
    get_language_id = function(_, filetype) return language_ids[filetype] or filetype end,
    handlers = {
      ['qcoder/status'] = function(_, result)
        status = { kind = result.kind, message = result.message or '' }
        vim.cmd.redrawstatus()
      end,
    },
  })
  local group = vim.api.nvim_create_augroup('qcoder', {})
  vim.api.nvim_create_autocmd('LspAttach', { group = group, callback = on_attach(options) })
  create_command()
  vim.lsp.enable('qcoder')
  return true
end

return M
