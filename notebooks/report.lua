-- What pandoc is to know of the report's HTML before it writes Typst.

local function typst(text) return pandoc.RawInline("typst", text) end

function Div(div)
  if div.classes:includes("screen") then return {} end
  if div.classes:includes("contents") then return pandoc.RawBlock("typst", "#contents") end
  return div.content
end

-- The ends of an interval, below its mean where they are in a table.
function Span(span)
  if span.classes:includes("small") then
    return { typst("#small["), span, typst("];") }
  end
end

-- A caption is above its table.
function Figure(figure)
  local content = figure.content[1]
  if content and content.t == "Table" then
    content.caption = figure.caption
    return content
  end
end

-- Long names and digests may break; a zero-width space would end up in what a reader copies.
local breakable = {
  Str = function(str)
    if #str.text <= 18 then return end
    local parts = pandoc.List()
    for part in str.text:gsub("[/_=@]", "%0\n"):gsub(("%w"):rep(12), "%0\n"):gmatch("[^\n]+") do
      parts:extend({ pandoc.Str(part), typst("#h(0.001pt);") })
    end
    return parts
  end,
}

-- Headings of numbers are broken between their words, so that columns are as narrow as numbers are.
local narrow = { Space = function() return pandoc.LineBreak() end }

-- Columns of labels or words are set left, numbers right; the first cell of a group covers the empty ones below it.
function Table(table)
  local words = table.classes:includes("words")
  local labels = words and #table.colspecs or table.classes:includes("labels-2") and 2 or 1
  for place, column in ipairs(table.colspecs) do
    column[1] = place <= labels and pandoc.AlignLeft or pandoc.AlignRight
  end
  if words then return table:walk(breakable) end
  for _, cell in ipairs(table.head.rows[1].cells) do cell.contents = cell.contents:walk(narrow) end
  for _, body in ipairs(table.bodies) do
    local first
    for _, row in ipairs(body.body) do
      if first and #row.cells[1].contents == 0 then
        first.row_span = first.row_span + 1
        row.cells:remove(1)
      else
        first = row.cells[1]
      end
    end
  end
  return table
end
