-- The :Qcoder command.

local client_of = require('qcoder.client')
local ghost = require('qcoder.ghost')
local pages = require('qcoder.pages')

local M = {}

--- The server of the current buffer, or nil after saying that there is none.
local function server()
  local client = client_of.all(vim.api.nvim_get_current_buf())[1]
  if not client then
    vim.notify('qcoder: no server for this file (:checkhealth qcoder)', vim.log.levels.WARN)
  end
  return client
end

--- Ask the server and show the answer on a page.
---@param render fun(answer: table): string[]
local function show(name, method, params, render)
  local client = server()
  if not client then
    return
  end
  client_of.request(client, method, params, function(err, answer)
    if err then
      vim.notify(('qcoder: %s'):format(err.message), vim.log.levels.ERROR)
    else
      pages.open('qcoder://' .. name, render(answer))
    end
  end, vim.api.nvim_get_current_buf())
end

--- Run a command of the server of the current buffer.
---@param handler? fun(result: any)
local function execute(command, arguments, handler)
  local client = server()
  if client then
    client_of.execute(client, command, arguments, vim.api.nvim_get_current_buf(), handler)
  end
end

local function uri() return vim.uri_from_bufnr(vim.api.nvim_get_current_buf()) end

--- Have the server use another model, until it ends.
local function use_model(client, name)
  local settings = (client.settings or client.config.settings).qcoder
  settings.model = vim.tbl_extend('force', settings.model or {}, { name = name })
  client_of.notify(client, 'workspace/didChangeConfiguration', { settings = { qcoder = settings } })
end

local function pick_model()
  local client = server()
  if not client then
    return
  end
  client_of.request(client, 'qcoder/models', vim.empty_dict(), function(err, answer)
    if err then
      vim.notify(('qcoder: %s'):format(err.message), vim.log.levels.ERROR)
      return
    end
    vim.ui.select(answer.models, {
      prompt = 'Model until the server ends (the setting model.name keeps one):',
      format_item = function(model)
        local used = model.name == answer.current and ' (in use)' or ''
        return ('%s: %s%s'):format(model.name, model.description, used)
      end,
    }, function(model)
      if model then
        use_model(client, model.name)
      end
    end)
  end, vim.api.nvim_get_current_buf())
end

--- What follows :Qcoder.
---@type table<string, fun()>
M.commands = {
  docstring = function()
    local line = vim.api.nvim_win_get_cursor(0)[1] - 1
    execute('qcoder.generateDocstring', { uri(), line }, function(edited)
      if not edited then
        vim.notify('qcoder: no docstring to write or mend here')
      end
    end)
  end,
  review = function() execute('qcoder.reviewFile', { uri() }) end,
  changes = function()
    execute('qcoder.reviewSinceCommit', {}, function(counts)
      if type(counts) == 'table' and counts.findings > 0 then
        vim.diagnostic.setqflist()
      end
    end)
  end,
  explain = function() show('explain', 'qcoder/explainLast', { uri = uri() }, pages.explanation) end,
  stats = function() show('stats', 'qcoder/statistics', vim.empty_dict(), pages.statistics) end,
  models = pick_model,
  restart = function()
    ghost.dismiss()
    client_of.restart()
  end,
  status = function()
    local status = client_of.status
    vim.notify(('qcoder: %s %s'):format(status.kind, status.message))
  end,
}

local function names()
  local found = vim.tbl_keys(M.commands)
  table.sort(found)
  return found
end

--- Define :Qcoder.
function M.create()
  vim.api.nvim_create_user_command('Qcoder', function(call)
    local command = M.commands[call.args]
    if command then
      command()
    else
      vim.notify(('qcoder: no command %q; there are %s'):format(call.args, table.concat(names(), ', ')), vim.log.levels.ERROR)
    end
  end, {
    nargs = 1,
    desc = 'qcoder: ' .. table.concat(names(), ', '),
    complete = function(lead)
      return vim.tbl_filter(function(name) return vim.startswith(name, lead) end, names())
    end,
  })
end

return M
