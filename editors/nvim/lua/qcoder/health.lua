-- :checkhealth qcoder

local M = {}

function M.check()
  local health = vim.health
  health.start('qcoder')
  if vim.fn.has('nvim-0.12') == 1 then
    health.ok('Neovim has inline completion')
  elseif vim.fn.has('nvim-0.11') == 1 then
    health.warn('Neovim 0.11: suggestions appear in the completion menu; 0.12 shows them inline')
  else
    health.error('Neovim 0.11 or newer is needed')
    return
  end
  local config = vim.lsp.config['qcoder']
  if not config then
    health.error("not set up: call require('qcoder').setup()")
    return
  end
  local command = config.cmd[1]
  if vim.fn.executable(command) == 1 then
    health.ok(('server: %s'):format(vim.fn.exepath(command)))
  else
    health.error(('server: %s is not executable'):format(command))
  end
  local clients = vim.lsp.get_clients({ name = 'qcoder' })
  health.info(('%d running'):format(#clients))
end

return M
