-- :checkhealth qcoder

local client_of = require('qcoder.client')

local M = {}

-- The functions have lost their prefix in Neovim 0.10.
local health = vim.health or require('health')
local start = health.start or health.report_start
local ok = health.ok or health.report_ok
local info = health.info or health.report_info
local failed = health.error or health.report_error

function M.check()
  start('qcoder')
  local options = client_of.options
  if not options then
    failed("not set up: call require('qcoder').setup()")
    return
  end
  local command = options.cmd[1]
  if vim.fn.executable(command) == 1 then
    ok(('server: %s'):format(vim.fn.exepath(command)))
  else
    failed(('server: %s is not executable; install the qcoder Python package or set cmd'):format(command))
    return
  end
  local version = vim.fn.system({ command, '--version' })
  if vim.v.shell_error == 0 then
    ok(vim.trim(version))
  else
    failed(('`%s --version` failed; `qcoder doctor` says more'):format(command), { vim.trim(version) })
  end
  local clients = client_of.all()
  info(('%d running; %s %s'):format(#clients, client_of.status.kind, client_of.status.message))
end

return M
