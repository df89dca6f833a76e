-- qcoder for Neovim: starts the language server and shows what it answers.
--
-- Owns: options, and what other configuration may call. `client.lua` speaks with the server,
-- `ghost.lua` shows suggestions, `keys.lua` and `commands.lua` are what the user has. Everything
-- that thinks is in the server.

local client_of = require('qcoder.client')
local commands = require('qcoder.commands')
local ghost = require('qcoder.ghost')
local keys = require('qcoder.keys')

local M = {}

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
  keys = keys.defaults,
}

--- What the server is doing, for a statusline: '' when there is nothing to say.
---@return string
function M.status()
  local status = client_of.status
  if status.kind == 'Normal' or status.kind == 'Inactive' then
    return ''
  end
  return 'qcoder: ' .. (status.message ~= '' and status.message or status.kind:lower())
end

--- Accept the suggestion on the screen, for key maps of your own.
---@return boolean accepted false when there is none
function M.accept() return ghost.accept() end

--- Whether a suggestion is on the screen.
---@return boolean
function M.is_visible() return ghost.is_visible() end

--- Start qcoder in the buffers of its filetypes, now and later.
---@param opts? table fields of `qcoder.Options`; missing ones keep their defaults
---@return boolean started false, with a message, where that cannot be
function M.setup(opts)
  if vim.fn.has('nvim-0.7') == 0 then
    vim.notify('qcoder needs Neovim 0.7 or newer', vim.log.levels.ERROR)
    return false
  end
  local options = vim.tbl_deep_extend('force', defaults, opts or {})
  client_of.options = options
  if vim.fn.executable(options.cmd[1]) == 0 then
    vim.notify(
      ('qcoder: %s is not executable; install the qcoder Python package or set cmd'):format(options.cmd[1]),
      vim.log.levels.ERROR
    )
    return false
  end
  commands.create()
  client_of.start(options, function(client, bufnr)
    ghost.attach(client, bufnr)
    keys.map(bufnr, options.keys)
  end)
  return true
end

return M
