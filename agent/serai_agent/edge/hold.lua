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

local function serves(txn, backend)
  return backend ~= nil and backend ~= "" and (tonumber(txn.c:nbsrv(backend)) or 0) > 0
end

-- Returns the backend and version to use now, if any. A request that names its version waits for
-- that version; any other one takes what has a share of the traffic and is ready.
local function choose(txn, route, pin)
  local main, main_version, other, other_version = route[3], route[12], route[4], route[13]
  local pins_main, pins_other = pin == main_version, other ~= "" and pin == other_version
  if not pins_other and serves(txn, main) then
    return main, main_version
  end
  if not pins_main and (pins_other or tonumber(route[5]) > 0) and serves(txn, other) then
    return other, other_version
  end
end

core.register_action("hold", { "http-req" }, function(txn)
  local key = txn:get_var("txn.key")
  local pin = txn:get_var("txn.pin")
  local waited_ms = tonumber(txn:get_var("txn.held_ms")) or 0
  local seen, route
  while true do
    local stopping = txn.f:stopping()
    if stopping == true or stopping == 1 then -- booleans arrive as numbers here
      txn:set_var("txn.held_ms", waited_ms)
      txn:set_var("txn.backend", "handover")
      return
    end
    local text = routes:lookup(key)
    if text == nil then
      txn:set_var("txn.gone", 1)
      return
    end
    if text ~= seen then
      seen, route = text, fields(text)
    end
    local backend, version = choose(txn, route, pin)
    if backend ~= nil then
      txn:set_var("txn.backend", backend)
      txn:set_var("txn.version", version)
      return
    end
    if waited_ms >= (tonumber(route[7]) or 0) then
      return
    end
    -- A client that has gone away is told by an action that may no longer wait.
    if not pcall(core.msleep, STEP_MS) then
      return act.ABORT
    end
    waited_ms = waited_ms + STEP_MS
  end
end)

-- Names why there was no answer: HAProxy has one status for a queue that timed out, when no server
-- was chosen yet, and for a server that cannot be connected to.
local function connecting(txn)
  local server = txn.f:srv_name()
  return server ~= nil and server ~= ""
end

core.register_fetches("busy_code", function(txn)
  return connecting(txn) and "bad_gateway" or "queue_timeout"
end)

core.register_fetches("busy_message", function(txn)
  return connecting(txn) and "no replica could be connected to"
    or "all replicas were busy until the queue's time limit"
end)
