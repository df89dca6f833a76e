-- The language server as Neovim's LSP client sees it: starting, finding, asking, stopping it.
--
-- Owns: the differences between Neovim's versions. From 0.11 on `vim.lsp.config` and
-- `vim.lsp.enable` start servers; before, this file does. Nothing here knows about suggestions.

local M = {}

local NAME = 'qcoder'
local ROOT_MARKERS = { '.git', 'qcoder.toml', 'pyproject.toml', 'package.json', 'go.mod', 'Cargo.toml' }
local STOP_POLL_MS = 20
local PATIENCE_MS = 3000 -- a server that has not ended by then is killed

local is_modern = vim.fn.has('nvim-0.11') == 1

-- The protocol's language ids, where they are not the filetype.
local language_ids = { cs = 'csharp', sh = 'shellscript', bash = 'shellscript' }

--- What the server said last of itself.
---@type { kind: string, message: string }
M.status = { kind = 'Inactive', message = '' }

--- What `setup` was called with; nil before.
---@type qcoder.Options?
M.options = nil

local expected_to_end = {} ---@type table<integer, boolean> by client id
local ids = {} ---@type table<string, integer> clients by root folder, on Neovim before 0.11
local attach ---@type fun(bufnr: integer) on Neovim before 0.11

---@param bufnr? integer only those that serve this buffer
---@return vim.lsp.Client[]
function M.all(bufnr)
  local get = vim.lsp.get_clients or vim.lsp.get_active_clients
  return vim.tbl_filter(function(client)
    return client.name == NAME and (bufnr == nil or client.attached_buffers[bufnr] ~= nil)
  end, get())
end

--- Call a method of a client: they took no `self` before 0.11.
local function call(client, method, ...)
  if is_modern then
    return client[method](client, ...)
  end
  return client[method](...)
end

--- Ask the server something. Pending edits of the buffer are sent first.
---@param handler fun(err?: table, result: any)
---@return integer? id for `cancel`; nil when the server has ended
function M.request(client, method, params, handler, bufnr)
  local sent, id = call(client, 'request', method, params, handler, bufnr)
  return sent and id or nil
end

--- Tell the server something.
function M.notify(client, method, params)
  call(client, 'notify', method, params)
end

--- Tell the server that nobody waits for an answer any more.
function M.cancel(client, id)
  call(client, 'cancel_request', id)
end

--- Run a command of the server.
---@param handler? fun(result: any) after success
function M.execute(client, command, arguments, bufnr, handler)
  M.request(client, 'workspace/executeCommand', { command = command, arguments = arguments }, function(err, result)
    if err then
      vim.notify(('qcoder: %s: %s'):format(command, err.message), vim.log.levels.ERROR)
    elseif handler then
      handler(result)
    end
  end, bufnr)
end

--- The protocol's column of a byte column.
---@param encoding 'utf-8'|'utf-16'|'utf-32'
---@return integer
function M.character_at(line, byte, encoding)
  if encoding == 'utf-8' then
    return byte
  elseif is_modern then
    return vim.str_utfindex(line, encoding, byte, false)
  end
  local utf32, utf16 = vim.str_utfindex(line, byte)
  return encoding == 'utf-16' and utf16 or utf32
end

--- The byte column of the protocol's; columns behind the line mean its end.
---@param encoding 'utf-8'|'utf-16'|'utf-32'
---@return integer
function M.byte_at(line, character, encoding)
  if encoding == 'utf-8' then
    return math.min(character, #line)
  elseif is_modern then
    return vim.str_byteindex(line, encoding, character, false)
  end
  local ok, byte = pcall(vim.str_byteindex, line, character, encoding == 'utf-16')
  return ok and byte or #line
end

--- Remember what the server is doing, and tell who listens: `User QcoderStatus`.
local function set_status(kind, message)
  M.status = { kind = kind, message = message }
  vim.cmd('redrawstatus')
  vim.api.nvim_exec_autocmds('User', { pattern = 'QcoderStatus', modeline = false })
end

local function on_status(_, result)
  set_status(result.kind, result.message or '')
end

local function on_exit(code, signal, id)
  for root, known in pairs(ids) do
    ids[root] = known ~= id and known or nil
  end
  local expected = expected_to_end[id]
  expected_to_end[id] = nil
  vim.schedule(function()
    if expected or vim.v.exiting ~= vim.NIL then
      return
    end
    set_status('Error', 'the server has ended')
    local how = signal ~= 0 and ('signal %d'):format(signal) or ('exit code %d'):format(code)
    vim.notify(('qcoder: the server has ended (%s); `:Qcoder restart` starts it again'):format(how), vim.log.levels.ERROR)
  end)
end

--- The folder that a file belongs to: the nearest with the first marker that any has.
---@return string?
local function root_of(path)
  for _, marker in ipairs(ROOT_MARKERS) do
    local folder = vim.fn.fnamemodify(path, ':h')
    while true do
      if vim.loop.fs_stat(folder .. '/' .. marker) then
        return folder
      end
      local above = vim.fn.fnamemodify(folder, ':h')
      if above == folder then
        break
      end
      folder = above
    end
  end
end

---@param options qcoder.Options
local function config_of(options)
  local settings = next(options.settings) and vim.deepcopy(options.settings) or vim.empty_dict()
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities.textDocument.inlineCompletion = { dynamicRegistration = false }
  return {
    name = NAME,
    cmd = options.cmd,
    capabilities = capabilities,
    init_options = settings,
    settings = { qcoder = settings },
    get_language_id = function(_, filetype) return language_ids[filetype] or filetype end,
    handlers = { ['qcoder/status'] = on_status },
    on_exit = on_exit,
  }
end

---@param options qcoder.Options
---@param attached fun(client: vim.lsp.Client, bufnr: integer)
local function start_modern(options, attached, group)
  local config = config_of(options)
  config.filetypes = options.filetypes
  config.root_markers = ROOT_MARKERS
  vim.lsp.config(NAME, config)
  vim.api.nvim_create_autocmd('LspAttach', {
    group = group,
    callback = function(args)
      local client = vim.lsp.get_client_by_id(args.data.client_id)
      if client and client.name == NAME then
        attached(client, args.buf)
      end
    end,
  })
  vim.lsp.enable(NAME)
end

---@param options qcoder.Options
---@param attached fun(client: vim.lsp.Client, bufnr: integer)
local function start_before_011(options, attached, group)
  attach = function(bufnr)
    local path = vim.api.nvim_buf_get_name(bufnr)
    local wanted = vim.bo[bufnr].buftype == '' and vim.tbl_contains(options.filetypes, vim.bo[bufnr].filetype)
    if path == '' or not wanted then
      return
    end
    local root = root_of(path)
    local id = ids[root or '']
    if not id then
      local config = config_of(options)
      config.root_dir = root
      config.on_attach = attached
      id = vim.lsp.start_client(config)
      ids[root or ''] = id
    end
    if id then
      vim.lsp.buf_attach_client(bufnr, id)
    end
  end
  vim.api.nvim_create_autocmd('FileType', {
    group = group,
    pattern = options.filetypes,
    callback = function(args) attach(args.buf) end,
  })
end

local function attach_loaded()
  for _, bufnr in ipairs(vim.api.nvim_list_bufs()) do
    if vim.api.nvim_buf_is_loaded(bufnr) then
      attach(bufnr)
    end
  end
end

--- Start the server in the buffers of its filetypes, now and later.
---@param options qcoder.Options
---@param attached fun(client: vim.lsp.Client, bufnr: integer)
function M.start(options, attached)
  local group = vim.api.nvim_create_augroup('qcoder', {})
  if is_modern then
    start_modern(options, attached, group)
  else
    start_before_011(options, attached, group)
    attach_loaded()
  end
end

--- Runs `act` once all of `clients` have ended.
local function when_stopped(clients, waited_ms, act)
  for _, client in ipairs(clients) do
    if not call(client, 'is_stopped') then
      if waited_ms == PATIENCE_MS then
        call(client, 'stop', true)
      end
      vim.defer_fn(function() when_stopped(clients, waited_ms + STOP_POLL_MS, act) end, STOP_POLL_MS)
      return
    end
  end
  act()
end

--- End the server, however it is, and start a new one.
function M.restart()
  local clients = M.all()
  set_status('Inactive', 'starting again')
  for _, client in ipairs(clients) do
    expected_to_end[client.id] = true
  end
  if is_modern then
    vim.lsp.enable(NAME, false)
  end
  for _, client in ipairs(clients) do
    call(client, 'stop')
  end
  when_stopped(clients, 0, function()
    if is_modern then
      vim.lsp.enable(NAME)
    else
      attach_loaded()
    end
  end)
end

return M
