-- Holds a request while its API has no ready replica, and hands it over when a reload retires
-- this process: the old process never hears of servers added to the new one.
local routes = Map.new(os.getenv("SERAI_ROUTE_MAP"), Map._beg)
local STEP_MS = 50

local function fields(route)
  local parts = {}
  for part in string.gmatch(route .. "|", "([^|]*)|") do
    parts[#parts + 1] = part
  end
  return parts
end

core.register_action("hold", { "http-req" }, function(txn)
  local key = txn:get_var("txn.key")
  local waited_ms = 0
  while true do
    local stopping = txn.f:stopping()
    if stopping == true or stopping == 1 then -- booleans arrive as numbers here
      txn:set_var("txn.backend", "handover")
      return
    end
    local route = routes:lookup(key)
    if route == nil then
      txn:set_var("txn.gone", 1)
      return
    end
    local part = fields(route)
    local backend = part[3]
    if backend ~= "" and txn.c:nbsrv(backend) > 0 then
      txn:set_var("txn.backend", backend)
      txn:set_var("txn.version", part[12])
      return
    end
    if waited_ms >= tonumber(part[7]) then
      return
    end
    core.msleep(STEP_MS)
    waited_ms = waited_ms + STEP_MS
  end
end)
