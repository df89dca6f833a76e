-- The keys of insert mode.

local ghost = require('qcoder.ghost')

local M = {}

---@class qcoder.Keys
---@field accept string|false        accept the whole suggestion (falls back to the key itself)
---@field accept_word string|false   accept its next word
---@field accept_line string|false   accept its first line
---@field next string|false          next candidate; asks for alternatives
---@field previous string|false      previous candidate

---@type qcoder.Keys
M.defaults = {
  accept = '<Tab>',
  accept_word = '<M-w>',
  accept_line = '<M-l>',
  next = '<M-]>',
  previous = '<M-[>',
}

local function choose(step)
  return function()
    vim.schedule(function() ghost.select(step) end)
    return true
  end
end

--- What each key does: returns false when the key is to be what it is without us.
local actions = {
  accept = { function() return ghost.accept() end, 'accept the suggestion' },
  accept_word = { function() return ghost.accept(ghost.word_bytes) end, 'accept the next word' },
  accept_line = { function() return ghost.accept(ghost.line_bytes) end, 'accept the next line' },
  next = { choose(1), 'next suggestion' },
  previous = { choose(-1), 'previous suggestion' },
}

--- Map the keys in a buffer.
---@param keys qcoder.Keys
function M.map(bufnr, keys)
  for name, action in pairs(actions) do
    local key = keys[name]
    if key then
      vim.keymap.set('i', key, function()
        -- While the completion menu is open, its keys are the menu's.
        if vim.fn.pumvisible() == 1 or not action[1]() then
          return key
        end
        return ''
      end, { buffer = bufnr, expr = true, replace_keycodes = true, desc = 'qcoder: ' .. action[2] })
    end
  end
end

return M
