-- Holds a request while its API has no ready replica, and hands it over when a reload retires
-- this process: the old process never hears of servers added to the new one.
local routes = Map.new(os.getenv("SERAI_ROUTE_MAP"), Map._beg)
local STEP_MS = 50
local BLIND = string.sub(core.get_info().version or "", 1, 4) ~= "2.6."

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

-- HAProxy 2.8 does not always notice that a held client hangs up (2.6 does), so the kernel's list of
-- connections is asked: at most once a second, and never for more than a fiftieth of the time.
local LIST = "/proc/net/tcp"
local CLOSE_WAIT = "08"
local list = { states = {}, at_s = -1, pause_s = 1 }

local function now_seconds()
  local now = core.now()
  return now.sec + now.usec / 1000000
end

local function connections(port)
  local now_s = now_seconds()
  if now_s - list.at_s < list.pause_s then
    return list.states
  end
  local states = {}
  for _, path in ipairs({ LIST, LIST .. "6" }) do
    local file = io.open(path)
    if file ~= nil then
      local text = file:read("a")
      file:close()
      for here, address, there, state in
        string.gmatch(text, "\n%s*%d+: %x+:(%x+) (%x+):(%x+) (%x+)")
      do
        if here == port then
          states[string.sub(address, -8) .. there] = state
        end
      end
    end
  end
  list.states, list.at_s = states, now_s
  list.pause_s = math.max(1, 50 * (now_seconds() - now_s))
  return states
end

-- Returns a function that says whether the client has hung up; nobody knows for IPv6 clients.
local function watcher(txn)
  local a, b, c, d = string.match(tostring(txn.f:src()), "(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  local there, here = tonumber(txn.f:src_port()), tonumber(txn.f:dst_port())
  if a == nil or there == nil or here == nil or not BLIND then
    return function() return false end
  end
  local key = string.format("%02X%02X%02X%02X%04X", d, c, b, a, there)
  local port = string.format("%04X", here)
  local since_s, present = now_seconds(), false
  return function()
    local states = connections(port)
    if list.at_s < since_s then -- it may tell of an earlier connection from the same port
      return false
    end
    local state = states[key]
    present = present or state ~= nil
    return state == CLOSE_WAIT or (present and state == nil)
  end
end

core.register_action("hold", { "http-req" }, function(txn)
  local key = txn:get_var("txn.key")
  local pin = txn:get_var("txn.pin")
  local waited_ms = tonumber(txn:get_var("txn.held_ms")) or 0
  local has_left = watcher(txn)
  local seen, route
  -- A client that hangs up may end this function without a further word: the log says `left` then.
  txn:set_var("txn.refused", "left")
  while true do
    if has_left() then
      return act.ABORT
    end
    local stopping = txn.f:stopping()
    if stopping == true or stopping == 1 then -- booleans arrive as numbers here
      txn:set_var("txn.held_ms", waited_ms)
      txn:set_var("txn.backend", "handover")
      txn:unset_var("txn.refused")
      return
    end
    local text = routes:lookup(key)
    if text == nil then
      txn:set_var("txn.gone", 1)
      txn:unset_var("txn.refused")
      return
    end
    if text ~= seen then
      seen, route = text, fields(text)
    end
    local backend, version = choose(txn, route, pin)
    if backend ~= nil then
      txn:set_var("txn.backend", backend)
      txn:set_var("txn.version", version)
      txn:unset_var("txn.refused")
      return
    end
    if waited_ms >= (tonumber(route[7]) or 0) then
      txn:set_var("txn.refused", "hold")
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
